//! Secrets as they are now, from the environment, a file or AWS Secrets Manager.
//!
//! Secrets Manager is asked with one signed request, because its SDK is a large crate for it ("GetSecretValue" in the
//! Secrets Manager API reference; the protocol is AWS JSON 1.1).

use std::collections::BTreeMap;
use std::error::Error;

use aws_config::SdkConfig;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use settings::{SecretArn, SecretFileError, SecretSource};

use crate::ATTEMPT_TIMEOUT;
use crate::signed::{HttpReply, SignedRequest};

/// A secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error("cannot read {arn} from Secrets Manager")]
    SecretsManager {
        arn: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The secret as it is now. Secrets Manager is asked each time, so call this when a connection is made, not per
/// request.
///
/// # Errors
/// If a file cannot be read or is empty. If Secrets Manager does not answer within 5 seconds or refuses, or the secret
/// is binary, or lacks the wanted member.
pub async fn read(source: &SecretSource) -> Result<SecretString, SecretError> {
    read_with(source, crate::sdk_config).await
}

/// Like [`read`], with the SDK configuration of the caller, which is asked for only if Secrets Manager has the secret.
///
/// # Errors
/// As [`read`].
pub async fn read_with(
    source: &SecretSource,
    sdk: impl AsyncFnOnce() -> SdkConfig,
) -> Result<SecretString, SecretError> {
    match source {
        SecretSource::Value(value) => Ok(value.clone()),
        SecretSource::File(file) => Ok(file.read()?),
        SecretSource::SecretsManager(secret) => {
            let failed = |source| SecretError::SecretsManager { arn: secret.arn.clone(), source };
            // Boxed: it has tens of kilobytes, and would be a part of every future that may open a connection.
            let asking = Box::pin(async { ask(secret, &sdk().await).await });
            tokio::time::timeout(ATTEMPT_TIMEOUT, asking)
                .await
                .map_err(|elapsed| failed(elapsed.into()))?
                .map_err(failed)
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretValue {
    secret_string: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

async fn ask(secret: &SecretArn, sdk: &SdkConfig) -> Result<SecretString, Box<dyn Error + Send + Sync>> {
    let request = SignedRequest {
        service_id: "Secrets Manager",
        service: "secretsmanager",
        region: &secret.region,
        headers: &[("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "secretsmanager.GetSecretValue")],
        body: &serde_json::json!({ "SecretId": secret.arn }).to_string(),
    };
    let HttpReply { status, body } = request.send(sdk).await?;
    if !(200..300).contains(&status) {
        return Err(match serde_json::from_slice(&body) {
            Ok(Refusal { kind, message }) => format!("{kind}: {message}").into(),
            Err(_) => format!("status {status}").into(),
        });
    }
    // The error of the parser would show a part of what it read.
    let value: SecretValue = serde_json::from_slice(&body).map_err(|_| "the answer is not that of GetSecretValue")?;
    let text = SecretString::from(value.secret_string.ok_or("the secret is binary")?);
    match &secret.member {
        None => Ok(text),
        Some(member) => member_of(&text, member),
    }
}

fn member_of(text: &SecretString, member: &str) -> Result<SecretString, Box<dyn Error + Send + Sync>> {
    let members: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(text.expose_secret()).map_err(|_| "the secret is not a JSON object")?;
    match members.get(member) {
        Some(serde_json::Value::String(value)) => Ok(value.as_str().into()),
        Some(_) => Err(format!("the member {member} of the secret is not a string").into()),
        None => Err(format!("the secret has no member {member}").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4;
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use hyper::service::service_fn;
    use hyper::{Request as Received, Response, body::Incoming};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:AmazonMSK_forebay-AbCdEf";
    const KEYS: (&str, &str, &str) = ("akid", "secret-key", "session-token");

    fn credentials() -> Credentials {
        Credentials::new(KEYS.0, KEYS.1, Some(KEYS.2.into()), None, "test")
    }

    fn sdk(endpoint: &str) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            // Not the region of the secret.
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials()))
            .endpoint_url(endpoint)
            .build()
    }

    /// Whether the request carries the signature that its own content must have.
    fn is_signed(parts: &hyper::http::request::Parts, body: &[u8], at: &str) -> bool {
        let header = |name: &str| parts.headers.get(name).unwrap().to_str().unwrap();
        let authorization = header("authorization");
        let signed = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
        let headers = signed
            .split(';')
            .filter(|name| !["host", "x-amz-date", "x-amz-security-token"].contains(name))
            .map(|name| (name, header(name)));
        let time = time_of(header("x-amz-date"));
        let identity = credentials().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name("secretsmanager")
            .time(time)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let signable = SignableRequest::new("POST", at, headers, SignableBody::Bytes(body)).unwrap();
        let (_, signature) = sign(signable, &params).unwrap().into_parts();
        ["content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"].join(";") == signed
            && authorization.ends_with(&signature)
    }

    /// `20261126T174500Z`.
    fn time_of(text: &str) -> SystemTime {
        let text = format!(
            "{}-{}-{}T{}:{}:{}Z",
            &text[..4],
            &text[4..6],
            &text[6..8],
            &text[9..11],
            &text[11..13],
            &text[13..15]
        );
        let format = aws_smithy_types::date_time::Format::DateTime;
        aws_smithy_types::DateTime::from_str(&text, format).unwrap().try_into().unwrap()
    }

    /// Answers every request with `status` and `body`; `seen` gets what was asked for.
    async fn secrets_manager(status: u16, body: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (asked, at) = (Arc::clone(&seen), format!("{endpoint}/"));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (asked, at) = (Arc::clone(&asked), at.clone());
                let answer = service_fn(move |request: Received<Incoming>| {
                    let (asked, at) = (Arc::clone(&asked), at.clone());
                    async move {
                        let (parts, incoming) = request.into_parts();
                        let received = incoming.collect().await.unwrap().to_bytes();
                        let target = parts.headers["x-amz-target"].to_str().unwrap();
                        let is_signed = is_signed(&parts, &received, &at);
                        asked.lock().unwrap().push(format!(
                            "{} {target} {} signed: {is_signed}",
                            parts.method,
                            String::from_utf8_lossy(&received)
                        ));
                        let answer = Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap();
                        Ok::<_, Infallible>(answer)
                    }
                });
                let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serving);
            }
        });
        (endpoint, seen)
    }

    async fn asked(status: u16, body: &'static str, member: &str) -> Result<String, String> {
        let (endpoint, seen) = secrets_manager(status, body).await;
        let secret = format!("{ARN}{member}").parse().unwrap();
        let answer = ask(&secret, &sdk(&endpoint)).await;
        let request = format!(r#"POST secretsmanager.GetSecretValue {{"SecretId":"{ARN}"}} signed: true"#);
        assert_eq!(*seen.lock().unwrap(), [request]);
        answer.map(|secret| secret.expose_secret().to_owned()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_secret_is_asked_for_with_a_signed_request() {
        let text = r#"{"ARN":"…","Name":"n","SecretString":"s3cret","VersionStages":["AWSCURRENT"]}"#;
        assert_eq!(asked(200, text, "").await.unwrap(), "s3cret");
        let object = r#"{"SecretString":"{\"username\":\"forebay\",\"password\":\"s3cret\",\"port\":5432}"}"#;
        assert_eq!(asked(200, object, ":password").await.unwrap(), "s3cret");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_without_the_secret() {
        let object = r#"{"SecretString":"{\"username\":\"s3cret\",\"port\":5432}"}"#;
        for (status, body, member, expected) in [
            (200, object, ":password", "the secret has no member password"),
            (200, object, ":port", "the member port of the secret is not a string"),
            (200, r#"{"SecretString":"s3cret"}"#, ":password", "the secret is not a JSON object"),
            (200, r#"{"SecretBinary":"c2VjcmV0"}"#, "", "the secret is binary"),
            (200, r#"{"SecretString":"s3cret""#, "", "the answer is not that of GetSecretValue"),
            (
                400,
                r#"{"__type":"ResourceNotFoundException","Message":"can't find the specified secret."}"#,
                "",
                "ResourceNotFoundException: can't find the specified secret.",
            ),
            (
                400,
                r#"{"__type":"AccessDeniedException","message":"not authorized"}"#,
                "",
                "AccessDeniedException: not authorized",
            ),
            (503, "Service Unavailable", "", "status 503"),
        ] {
            assert_eq!(asked(status, body, member).await.unwrap_err(), expected);
        }
    }
}
