//! One connection to a cluster, shared by publisher, consumers and administration.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use krafka::auth::{AuthConfig, AwsMskIamCredentials, TlsConfig};
use krafka::{Kafka, KrafkaError};
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{REQUEST_TIMEOUT, SaslLogin, SaslMechanism, TlsFiles};
use crate::error::may_be_a_refused_login;
use crate::{
    Bootstrap, Compression, ConsumerOptions, GroupConsumer, KafkaConfig, KafkaError, KafkaPublisher, PublisherOptions,
    Security, TopicAdmin,
};

/// Longest wait for one broker to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the files of certificates are read again. Certificates are renewed hours before they end, so an hour would
/// do; short, because connections that brokers refuse until then are lost time.
const TLS_RELOAD: Duration = Duration::from_secs(60);

/// A connected cluster. Clones share connections and metadata.
///
/// When a broker may have refused the password, it is read again from where it comes from before the next operation; if
/// it has changed, that operation and all later ones use new connections.
#[derive(Clone, Debug)]
pub struct KafkaClient {
    config: KafkaConfig,
    brokers: String,
    client_id: String,
    /// If the security or the look-up of the brokers needs it.
    aws: Option<SdkConfig>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connected: RwLock<Arc<Connected>>,
    /// Held while the login is read again.
    renewing: tokio::sync::Mutex<()>,
}

impl Shared {
    fn connected(&self) -> Arc<Connected> {
        Arc::clone(&self.connected.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A handle on the cluster, and the login with which it was made.
#[derive(Debug)]
pub(crate) struct Connected {
    pub kafka: Kafka,
    /// Empty if the security has none.
    password: SecretString,
    /// A broker may have refused the login.
    refused: AtomicBool,
}

impl Connected {
    fn new(kafka: Kafka, password: SecretString) -> Arc<Self> {
        Arc::new(Connected { kafka, password, refused: AtomicBool::new(false) })
    }

    /// To be told of every error of what was made from this handle: a login that a broker may have refused is read
    /// again before the next operation.
    pub fn note(&self, error: &KafkaError) {
        if may_be_a_refused_login(error) {
            self.refused.store(true, Ordering::Release);
        }
    }

    /// Whether it was made with a password, which may be rotated.
    pub fn has_password(&self) -> bool {
        !self.password.expose_secret().is_empty()
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }
}

impl KafkaClient {
    /// Connects and reads the cluster's list of brokers, so that a wrong address or a missing permission shows at
    /// start, and a function's first call does not have to wait for it.
    ///
    /// # Errors
    /// If the brokers cannot be looked up, the password cannot be read, or no broker answers.
    pub async fn connect(config: &KafkaConfig, client_id: &str) -> Result<Self, KafkaError> {
        let aws = match (&config.bootstrap, &config.security) {
            (Bootstrap::Brokers(_), Security::Plaintext | Security::Tls(_) | Security::Sasl(..)) => None,
            (Bootstrap::MskCluster(_), _) | (_, Security::Iam(_)) => Some(aws::sdk_config().await),
        };
        Self::open(config, client_id, aws).await
    }

    /// Like [`KafkaClient::connect`], with another AWS configuration than that of the process.
    ///
    /// # Errors
    /// As [`KafkaClient::connect`].
    pub async fn connect_as(config: &KafkaConfig, client_id: &str, aws: SdkConfig) -> Result<Self, KafkaError> {
        Self::open(config, client_id, Some(aws)).await
    }

    async fn open(config: &KafkaConfig, client_id: &str, aws: Option<SdkConfig>) -> Result<Self, KafkaError> {
        let brokers = match &config.bootstrap {
            Bootstrap::Brokers(brokers) => brokers.clone(),
            Bootstrap::MskCluster(cluster) => brokers_of(cluster, &config.security, aws.as_ref()).await?,
        };
        let password = password(&config.security).await?;
        let kafka = open(&brokers, client_id, &config.security, &password, aws.as_ref()).await?;
        let shared =
            Shared { connected: RwLock::new(Connected::new(kafka, password)), renewing: tokio::sync::Mutex::new(()) };
        let (config, client_id) = (config.clone(), client_id.to_owned());
        Ok(KafkaClient { config, brokers, client_id, aws, shared: Arc::new(shared) })
    }

    /// The handle to use now.
    ///
    /// # Errors
    /// If a broker refused the login before, and the password cannot be read again, or no broker accepts the new one.
    pub(crate) async fn current(&self) -> Result<Arc<Connected>, KafkaError> {
        let connected = self.shared.connected();
        if connected.is_refused() { self.renewed().await } else { Ok(connected) }
    }

    /// Reads the login again, and connects with it if it has changed.
    async fn renewed(&self) -> Result<Arc<Connected>, KafkaError> {
        let _only_one = self.shared.renewing.lock().await;
        let known = self.shared.connected();
        if !known.is_refused() {
            // Another caller has done it meanwhile.
            return Ok(known);
        }
        let password = password(&self.config.security).await?;
        if password.expose_secret() == known.password.expose_secret() {
            known.refused.store(false, Ordering::Release);
            return Ok(known);
        }
        let kafka = open(&self.brokers, &self.client_id, &self.config.security, &password, self.aws.as_ref()).await?;
        let renewed = Connected::new(kafka, password);
        *self.shared.connected.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&renewed);
        tracing::info!("Kafka refused the password; connected with the one that has replaced it");
        Ok(renewed)
    }

    pub(crate) fn compression(&self) -> Compression {
        self.config.compression
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
        let config = KafkaConfig { bootstrap, ..self.config.clone() };
        Self::open(&config, &self.client_id, self.aws.clone()).await
    }

    /// Creates a publisher. One is enough for a process, because concurrent callers can share it.
    ///
    /// # Errors
    /// If the cluster gives it no producer id.
    pub async fn publisher(&self, options: PublisherOptions) -> Result<KafkaPublisher, KafkaError> {
        KafkaPublisher::start(self, options).await
    }

    /// Creates a member of a consumer group. It joins with its first poll.
    ///
    /// Two members of one classic group need a client each: the broker delays its answer to the joining member until
    /// the other has joined again, and answers the requests of one connection in order.
    ///
    /// # Errors
    /// If a topic does not exist.
    pub async fn consumer(&self, options: ConsumerOptions) -> Result<GroupConsumer, KafkaError> {
        GroupConsumer::start(self, options).await
    }

    /// Topic administration.
    pub fn topics(&self) -> TopicAdmin {
        TopicAdmin::new(self.clone())
    }
}

/// The password as it is now; empty if the security has none.
async fn password(security: &Security) -> Result<SecretString, KafkaError> {
    match security {
        Security::Sasl(login, _) => aws::secrets::read(&login.password).await.map_err(KafkaError::Password),
        Security::Plaintext | Security::Tls(_) | Security::Iam(_) => Ok(SecretString::default()),
    }
}

async fn open(
    brokers: &str,
    client_id: &str,
    security: &Security,
    password: &SecretString,
    aws: Option<&SdkConfig>,
) -> Result<Kafka, KafkaError> {
    let mut builder =
        Kafka::builder(brokers).client_id(client_id).connect_timeout(CONNECT_TIMEOUT).request_timeout(REQUEST_TIMEOUT);
    let encrypted = match security {
        Security::Plaintext => None,
        Security::Tls(files) => Some((AuthConfig::plaintext(), files)),
        Security::Sasl(login, files) => Some((sasl(login, password), files)),
        Security::Iam(files) => Some((iam(aws)?, files)),
    };
    if let Some((auth, files)) = encrypted {
        let reload = (*files != TlsFiles::default()).then_some(TLS_RELOAD);
        builder = builder.security(auth.with_tls(tls(files))).tls_reload_interval(reload);
    }
    builder.connect().await.map_err(|source| KafkaError::Connect { brokers: brokers.to_owned(), source })
}

/// Paths are text here, because they come from variables that are.
fn tls(files: &TlsFiles) -> TlsConfig {
    let mut tls = TlsConfig::new();
    if let Some(ca) = &files.ca {
        tls = tls.with_ca_cert(ca.to_string_lossy());
    }
    if let Some(client) = &files.client {
        tls = tls.with_client_cert(client.certificate.to_string_lossy(), client.key.to_string_lossy());
    }
    tls
}

fn sasl(login: &SaslLogin, password: &SecretString) -> AuthConfig {
    let (name, password) = (&login.username, password.expose_secret());
    match login.mechanism {
        SaslMechanism::Plain => AuthConfig::sasl_plain(name, password),
        SaslMechanism::ScramSha256 => AuthConfig::sasl_scram_sha256(name, password),
        SaslMechanism::ScramSha512 => AuthConfig::sasl_scram_sha512(name, password),
    }
}

/// The bootstrap string of an MSK cluster for the configured security.
async fn brokers_of(cluster: &str, security: &Security, aws: Option<&SdkConfig>) -> Result<String, KafkaError> {
    let aws = aws.ok_or(KafkaError::NoAwsIdentity { missing: "settings" })?;
    let answer = aws_sdk_kafka::Client::new(aws)
        .get_bootstrap_brokers()
        .cluster_arn(cluster)
        .send()
        .await
        .map_err(|source| KafkaError::BrokerLookup { cluster: cluster.to_owned(), source: Box::new(source) })?;
    let brokers = match security {
        Security::Plaintext => answer.bootstrap_broker_string(),
        Security::Tls(_) => answer.bootstrap_broker_string_tls(),
        Security::Sasl(..) => answer.bootstrap_broker_string_sasl_scram(),
        Security::Iam(_) => answer.bootstrap_broker_string_sasl_iam(),
    };
    let security = security.name();
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
