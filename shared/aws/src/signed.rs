//! Single requests to HTTP APIs: signed to an AWS API whose SDK would be a large crate for it, or unsigned. There are no
//! retries.

use std::error::Error;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::http::Request;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_types::service_config::ServiceConfigKey;

/// A POST to the root of a service in one region.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// As SDKs name the service: `Secrets Manager` has its endpoint in `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
    pub service_id: &'static str,
    /// As signatures and host names have it: `secretsmanager`.
    pub service: &'static str,
    pub region: &'a str,
    pub headers: &'a [(&'static str, &'a str)],
    pub body: &'a str,
}

/// Any answer.
#[derive(Clone, Debug)]
pub struct HttpReply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl SignedRequest<'_> {
    /// Sends it, with the credentials of `sdk`. The caller limits the time.
    ///
    /// # Errors
    /// If there are no credentials, or no answer. A refusal is an answer.
    pub async fn send(&self, sdk: &SdkConfig) -> Result<HttpReply, CallError> {
        let url = endpoint(self.service_id, self.service, self.region, sdk)?;
        let signature = Signature { sdk, service: self.service, region: self.region };
        let post = Post { url: &url, headers: self.headers, body: self.body.as_bytes() };
        HttpSender::new().send(post, Some(signature)).await
    }
}

/// There is no answer.
pub type CallError = Box<dyn Error + Send + Sync>;

/// A POST to any URL.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// Whose credentials sign a request, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Signature<'a> {
    pub sdk: &'a SdkConfig,
    /// As signatures have it: `secretsmanager`.
    pub service: &'a str,
    pub region: &'a str,
}

/// Connections, which later requests use again.
#[derive(Debug)]
pub struct HttpSender(Connector);

impl HttpSender {
    #[expect(clippy::new_without_default, reason = "it reads the certificates of the machine")]
    pub fn new() -> Self {
        let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        HttpSender(Connector::builder().tls_provider(tls).build())
    }

    /// Sends a request, once. The caller limits the time.
    ///
    /// # Errors
    /// If there are no credentials to sign with, or no answer. A refusal is an answer.
    pub async fn send(&self, post: Post<'_>, signature: Option<Signature<'_>>) -> Result<HttpReply, CallError> {
        let mut request = Request::new(SdkBody::from(post.body));
        request.set_method("POST")?;
        request.set_uri(post.url.to_owned())?;
        for (name, value) in post.headers {
            request.headers_mut().try_insert((*name).to_owned(), (*value).to_owned())?;
        }
        if let Some(signature) = signature {
            sign_post(&mut request, post, signature).await?;
        }
        let answer = self.0.call(request).await?;
        let status = answer.status().as_u16();
        let body = ByteStream::new(answer.into_body()).collect().await?.to_vec();
        Ok(HttpReply { status, body })
    }
}

async fn sign_post(request: &mut Request, post: Post<'_>, by: Signature<'_>) -> Result<(), CallError> {
    let provider = by.sdk.credentials_provider().ok_or("no AWS credentials are configured")?;
    let identity = provider.provide_credentials().await?.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(by.region)
        .name(by.service)
        .time(by.sdk.time_source().unwrap_or_default().now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let signable =
        SignableRequest::new("POST", post.url, post.headers.iter().copied(), SignableBody::Bytes(post.body))?;
    let (instructions, _signature) = sign(signable, &params)?.into_parts();
    for (name, value) in instructions.headers() {
        request.headers_mut().try_insert(name.to_owned(), value.to_owned())?;
    }
    Ok(())
}

/// The URL of a service's root, as the SDKs find it: `AWS_ENDPOINT_URL_…`, `AWS_ENDPOINT_URL`, the same in the profile, or
/// else the public endpoint of the region.
///
/// # Errors
/// None for services that the SDKs know.
pub fn endpoint(
    service_id: &'static str,
    service: &str,
    region: &str,
    sdk: &SdkConfig,
) -> Result<String, Box<dyn Error + Send + Sync>> {
    let key =
        ServiceConfigKey::builder().service_id(service_id).env("AWS_ENDPOINT_URL").profile("endpoint_url").build()?;
    let configured = sdk.service_config().and_then(|service| service.load_config(key));
    Ok(match configured.or_else(|| sdk.endpoint_url().map(str::to_owned)) {
        Some(url) => format!("{}/", url.trim_end_matches('/')),
        None => {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            format!("https://{service}.{region}.{domain}/")
        }
    })
}

#[cfg(test)]
mod tests {
    use aws_config::Region;

    use super::*;

    #[test]
    fn without_an_endpoint_of_ones_own_the_region_of_the_request_is_asked() {
        let sdk = SdkConfig::builder().region(Region::new("us-east-1")).build();
        let at = |service_id, service, region| endpoint(service_id, service, region, &sdk).unwrap();
        assert_eq!(
            at("Secrets Manager", "secretsmanager", "eu-west-1"),
            "https://secretsmanager.eu-west-1.amazonaws.com/"
        );
        assert_eq!(at("SQS", "sqs", "cn-north-1"), "https://sqs.cn-north-1.amazonaws.com.cn/");
    }

    #[test]
    fn an_endpoint_of_ones_own_is_asked_for_every_region() {
        let sdk = SdkConfig::builder().endpoint_url("http://127.0.0.1:9324").build();
        assert_eq!(endpoint("SQS", "sqs", "eu-west-1", &sdk).unwrap(), "http://127.0.0.1:9324/");
    }
}
