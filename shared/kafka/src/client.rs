//! One connection to a cluster, shared by publisher, consumers and administration.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use krafka::auth::{AuthConfig, AwsMskIamCredentials, TlsConfig};
use krafka::{Kafka, KrafkaError};

use crate::config::REQUEST_TIMEOUT;
use crate::{
    Bootstrap, ConsumerOptions, GroupConsumer, KafkaConfig, KafkaError, KafkaPublisher, PublisherOptions, Security,
    TopicAdmin,
};

/// Longest wait for one broker to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A connected cluster. Clones share connections and metadata.
#[derive(Clone, Debug)]
pub struct KafkaClient {
    kafka: Kafka,
    brokers: String,
    security: Security,
    client_id: String,
}

impl KafkaClient {
    /// Connects and reads the cluster's list of brokers, so that a wrong address or a missing permission shows at
    /// start, and a function's first call does not have to wait for it.
    ///
    /// # Errors
    /// If the brokers cannot be looked up, or none answers.
    pub async fn connect(config: &KafkaConfig, client_id: &str) -> Result<Self, KafkaError> {
        let aws = match (&config.bootstrap, config.security) {
            (Bootstrap::Brokers(_), Security::Plaintext | Security::Tls) => None,
            (Bootstrap::MskCluster(_), _) | (_, Security::Iam) => Some(aws::sdk_config().await),
        };
        let brokers = match &config.bootstrap {
            Bootstrap::Brokers(brokers) => brokers.clone(),
            Bootstrap::MskCluster(cluster) => brokers_of(cluster, config.security, aws.as_ref()).await?,
        };
        let mut builder = Kafka::builder(brokers.clone())
            .client_id(client_id)
            .connect_timeout(CONNECT_TIMEOUT)
            .request_timeout(REQUEST_TIMEOUT);
        match config.security {
            Security::Plaintext => {}
            Security::Tls => builder = builder.security(AuthConfig::ssl(TlsConfig::new())),
            Security::Iam => builder = builder.security(iam(aws.as_ref())?),
        }
        match builder.connect().await {
            Ok(kafka) => Ok(KafkaClient { kafka, brokers, security: config.security, client_id: client_id.to_owned() }),
            Err(source) => Err(KafkaError::Connect { brokers, source }),
        }
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// The addresses for the first connection: comma-separated `host:port`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The same cluster with separate connections. A broker answers the requests of one connection in order, so a
    /// caller with long polls needs its own connections, or the requests of others wait behind its polls.
    ///
    /// # Errors
    /// Like [`KafkaClient::connect`].
    pub async fn separate(&self) -> Result<Self, KafkaError> {
        let bootstrap = Bootstrap::Brokers(self.brokers.clone());
        Self::connect(&KafkaConfig { bootstrap, security: self.security }, &self.client_id).await
    }

    /// Creates a publisher. One is enough for a process, because concurrent callers can share it.
    ///
    /// # Errors
    /// If the cluster gives it no producer id.
    pub async fn publisher(&self, options: PublisherOptions) -> Result<KafkaPublisher, KafkaError> {
        KafkaPublisher::start(&self.kafka, options).await
    }

    /// Creates a member of a consumer group. It joins with its first poll.
    ///
    /// Two members of one classic group need a client each: the broker delays its answer to the joining member until
    /// the other has joined again, and answers the requests of one connection in order.
    ///
    /// # Errors
    /// If a topic does not exist.
    pub async fn consumer(&self, options: ConsumerOptions) -> Result<GroupConsumer, KafkaError> {
        GroupConsumer::start(&self.kafka, options).await
    }

    /// Topic administration.
    pub fn topics(&self) -> TopicAdmin {
        TopicAdmin::new(self.kafka.admin())
    }
}

/// The bootstrap string of an MSK cluster for the configured security.
async fn brokers_of(cluster: &str, security: Security, aws: Option<&SdkConfig>) -> Result<String, KafkaError> {
    let aws = aws.ok_or(KafkaError::NoAwsIdentity { missing: "settings" })?;
    let answer = aws_sdk_kafka::Client::new(aws)
        .get_bootstrap_brokers()
        .cluster_arn(cluster)
        .send()
        .await
        .map_err(|source| KafkaError::BrokerLookup { cluster: cluster.to_owned(), source: Box::new(source) })?;
    let (brokers, security) = match security {
        Security::Plaintext => (answer.bootstrap_broker_string(), "plaintext"),
        Security::Tls => (answer.bootstrap_broker_string_tls(), "tls"),
        Security::Iam => (answer.bootstrap_broker_string_sasl_iam(), "iam"),
    };
    brokers.map(str::to_owned).ok_or_else(|| KafkaError::NoListener { cluster: cluster.to_owned(), security })
}

/// SASL `AWS_MSK_IAM`. The SDK's provider is asked for each new connection, so renewed credentials are used.
fn iam(aws: Option<&SdkConfig>) -> Result<AuthConfig, KafkaError> {
    let aws = aws.ok_or(KafkaError::NoAwsIdentity { missing: "settings" })?;
    let region = aws.region().ok_or(KafkaError::NoAwsIdentity { missing: "region" })?.to_string();
    let provider = aws.credentials_provider().ok_or(KafkaError::NoAwsIdentity { missing: "credentials" })?;
    Ok(AuthConfig::aws_msk_iam_provider(move || {
        let (provider, region) = (provider.clone(), region.clone());
        async move {
            let credentials = provider
                .provide_credentials()
                .await
                .map_err(|error| KrafkaError::auth_with_source("no AWS credentials", error))?;
            let signed =
                AwsMskIamCredentials::new(credentials.access_key_id(), credentials.secret_access_key(), region);
            Ok(match credentials.session_token() {
                Some(token) => signed.with_session_token(token),
                None => signed,
            })
        }
    }))
}
