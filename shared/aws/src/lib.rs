//! AWS SDK configuration: one HTTP client with ring TLS, credentials and region from the environment. Also reads secrets
//! from where a setting says they are, as they may be in Secrets Manager, and makes single signed requests.

pub mod secrets;
pub mod signed;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_smithy_http_client::tls;

/// Longest time for one attempt of one call. The SDK's retries are off: a guard (`pipeline::guard`) retries, because
/// retries must fit into the remaining time of the invocation. The DynamoDB client alone turns them on, within bounds of its
/// own.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Loads region, credentials and endpoints (`AWS_ENDPOINT_URL_S3` and so on) as the SDK documents them.
pub async fn sdk_config() -> SdkConfig {
    loader().load().await
}

/// The same configuration before it is loaded, for tools that set region and credentials themselves.
pub fn loader() -> ConfigLoader {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .build(),
        )
}
