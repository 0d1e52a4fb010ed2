//! The connection that all adapters of this crate share.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;

/// How often one request is sent at most, including the first time. A call of a port makes up to forty requests: if
/// each were sent only once, a throttled table would fail nearly every call, and repeating a whole call would not help.
///
/// A guard makes three attempts of a call (`pipeline::guard`), so a request is sent at most twelve times. In an outage
/// it is far fewer, because the SDK's retry quota, which all requests of a process share, is soon used up.
const SENDS: u32 = 4;
/// Waits are random, from zero to this bound, which doubles. DynamoDB answers in milliseconds, so its SDKs start at 25
/// ms.
const FIRST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_millis(400);
/// Time limit for all attempts of a request and the waits between them. It equals the limit for one attempt, so a
/// request that timed out is not sent again here: only the caller knows how many seconds are left.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A DynamoDB client with one connection open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DynamoDb {
    client: Client,
}

impl DynamoDb {
    /// Creates a client and opens a connection with one cheap call, because the TLS handshake costs hundreds of
    /// milliseconds on a small function, and a function has more CPU during init than later. The SDK retries failed
    /// requests, whatever retry settings `sdk` has.
    ///
    /// Never fails: a service that is down now may be up at the first request. Any answer opens the connection, even a
    /// refusal, so `dynamodb:DescribeEndpoints` need not be permitted.
    pub async fn connect(sdk: &SdkConfig) -> Self {
        let timeouts = sdk.timeout_config().map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
        let config = Builder::from(sdk)
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(SENDS)
                    .with_initial_backoff(FIRST_WAIT)
                    .with_max_backoff(LONGEST_WAIT),
            )
            .timeout_config(timeouts.operation_timeout(TIMEOUT).build())
            .build();
        let client = Client::from_conf(config);
        let once = Builder::new().retry_config(RetryConfig::disabled());
        if let Err(error) = client.describe_endpoints().customize().config_override(once).send().await
            && error.raw_response().is_none()
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "dynamodb cannot be reached at the start of the function: the first request will try again"
            );
        }
        DynamoDb { client }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}
