//! One signed request to an AWS API whose SDK would be a large crate for it. There are no retries.

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

/// Any answer of the service.
#[derive(Clone, Debug)]
pub struct SignedReply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl SignedRequest<'_> {
    /// Sends it, with the credentials of `sdk`. The caller limits the time.
    ///
    /// # Errors
    /// If there are no credentials, or no answer. A refusal is an answer.
    pub async fn send(&self, sdk: &SdkConfig) -> Result<SignedReply, Box<dyn Error + Send + Sync>> {
        let connector =
            Connector::builder().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build();
        let answer = connector.call(self.sign(sdk).await?).await?;
        let status = answer.status().as_u16();
        let body = ByteStream::new(answer.into_body()).collect().await?.to_vec();
        Ok(SignedReply { status, body })
    }

    async fn sign(&self, sdk: &SdkConfig) -> Result<Request, Box<dyn Error + Send + Sync>> {
        let url = endpoint(self.service_id, self.service, self.region, sdk)?;
        let provider = sdk.credentials_provider().ok_or("no AWS credentials are configured")?;
        let identity = provider.provide_credentials().await?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(sdk.time_source().unwrap_or_default().now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let body = SignableBody::Bytes(self.body.as_bytes());
        let signable = SignableRequest::new("POST", &url, self.headers.iter().copied(), body)?;
        let (instructions, _signature) = sign(signable, &params)?.into_parts();

        let mut request = Request::new(SdkBody::from(self.body));
        request.set_method("POST")?;
        request.set_uri(url)?;
        for (name, value) in self.headers {
            request.headers_mut().try_insert(*name, (*value).to_owned())?;
        }
        for (name, value) in instructions.headers() {
            request.headers_mut().try_insert(name.to_owned(), value.to_owned())?;
        }
        Ok(request)
    }
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
