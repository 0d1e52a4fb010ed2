//! The connection that all adapters of this crate share.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;

/// A DynamoDB client with one connection open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DynamoDb {
    client: Client,
}

impl DynamoDb {
    /// Makes a client and opens a connection with one cheap call, because the TLS handshake costs hundreds of
    /// milliseconds on a small function and an initialising function has more CPU than a running one.
    ///
    /// Never fails: a service that is down now may be up at the first request. Any answer will do, also a refusal,
    /// so `dynamodb:DescribeEndpoints` need not be permitted.
    pub async fn connect(sdk: &SdkConfig) -> Self {
        let client = Client::new(sdk);
        if let Err(error) = client.describe_endpoints().send().await
            && error.raw_response().is_none()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "dynamodb cannot be reached at start");
        }
        DynamoDb { client }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}
