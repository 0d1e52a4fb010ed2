//! TLS and SASL listeners of Apache Kafka: what is right connects and carries records, what is wrong is refused with an
//! error that names the setting to look at.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka::{
    ConsumerOptions, GroupConsumer, KafkaClient, KafkaConfig, KafkaError, PublisherOptions, Rebalance,
    StartingPosition, TopicChange, TopicPartition, TopicSpec,
};
use krafka::admin::{AlterUserScramCredentialsOptions, ScramCredentialUpsertion};
use krafka::auth::ScramMechanism;
use pipeline::ports::{NewRecord, RecordPublisher, TopicSource};
use pipeline::{ErrorClass, Position, Record};
use services::apache_kafka::ApacheKafka;
use services::{certificates, free_port};
use settings::Settings;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Time limit for everything that a healthy broker does, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
/// A broker ends the connections of this mechanism's users after so many milliseconds, as those of hosted clusters do.
const SESSION_MS: u64 = 2_000;

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// One broker for all tests of this binary; its supervisor stops it when the process ends.
static BROKER: OnceCell<Broker> = OnceCell::const_new();

/// An Apache Kafka with a listener for each kind of security.
struct Broker {
    plaintext: String,
    tls: u16,
    /// TLS that asks clients for a certificate.
    mutual: u16,
    /// SASL over TLS, with every mechanism.
    sasl: u16,
    /// SASL over TLS, with SCRAM-SHA-512 only, and short sessions.
    scram: u16,
    /// Certificates and keys.
    folder: PathBuf,
    _process: ApacheKafka,
}

impl Broker {
    async fn get() -> &'static Self {
        BROKER.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-security");
        let _absent = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["ca", "other-ca"] {
            certificates::authority(&folder, name).unwrap();
        }
        for (authority, name) in [("ca", "broker"), ("ca", "client"), ("other-ca", "stranger")] {
            certificates::certificate(&folder, authority, name).unwrap();
        }
        let pem = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        std::fs::write(folder.join("broker-store.pem"), pem("broker.key") + &pem("broker.pem")).unwrap();

        let [port, tls, mutual, sasl, scram] = [0; 5].map(|_| free_port().unwrap());
        let files = folder.display();
        let module = "org.apache.kafka.common.security";
        let properties = format!(
            "listeners=PLAINTEXT://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,TLS://127.0.0.1:{tls},\
             MUTUAL://127.0.0.1:{mutual},SASL://127.0.0.1:{sasl},SCRAM://127.0.0.1:{scram}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:@PORT@,TLS://127.0.0.1:{tls},MUTUAL://127.0.0.1:{mutual},\
             SASL://127.0.0.1:{sasl},SCRAM://127.0.0.1:{scram}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,MUTUAL:SSL,SASL:SASL_SSL,\
             SCRAM:SASL_SSL\n\
             ssl.keystore.type=PEM\nssl.keystore.location={files}/broker-store.pem\n\
             ssl.truststore.type=PEM\nssl.truststore.location={files}/ca.pem\n\
             listener.name.mutual.ssl.client.auth=required\n\
             listener.name.sasl.sasl.enabled.mechanisms={}\n\
             listener.name.sasl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_forebay=\"right\";\n\
             listener.name.sasl.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             listener.name.sasl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512\n\
             listener.name.scram.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             listener.name.scram.scram-sha-512.connections.max.reauth.ms={SESSION_MS}\n",
            MECHANISMS.join(",")
        );
        std::fs::write(folder.join("more.properties"), properties).unwrap();
        let process = ApacheKafka::start(Some(port), Some(&folder)).await.unwrap();
        let broker = Broker { plaintext: process.brokers(), tls, mutual, sasl, scram, folder, _process: process };
        for mechanism in [ScramMechanism::Sha256, ScramMechanism::Sha512] {
            broker.set_password("forebay", mechanism, "right").await;
        }
        broker
    }

    async fn set_password(&self, user: &str, mechanism: ScramMechanism, password: &str) {
        let kafka = krafka::Kafka::builder(&self.plaintext).connect().await.unwrap();
        let (name, digest, bytes) = match mechanism {
            ScramMechanism::Sha256 => ("SCRAM-SHA-256", "SHA256", 32),
            _ => ("SCRAM-SHA-512", "SHA512", 64),
        };
        let (salt, iterations) = ("salt-of-the-tests", 4096);
        // Hi() of RFC 5802 is PBKDF2.
        let options =
            format!("-kdfopt digest:{digest} -kdfopt salt:{salt} -kdfopt iter:{iterations} -kdfopt pass:{password}");
        let arguments = format!("kdf -binary -keylen {bytes} {options} PBKDF2");
        let salted_password = certificates::openssl(&self.folder, &arguments).unwrap();
        let wanted = ScramCredentialUpsertion {
            name: user.to_owned(),
            mechanism,
            iterations,
            salt: salt.as_bytes().to_vec().into(),
            salted_password: salted_password.into(),
        };
        let options = AlterUserScramCredentialsOptions::default();
        let answers = kafka.admin().alter_user_scram_credentials(vec![], vec![wanted], options).await.unwrap();
        answers.into_values().for_each(|answer| answer.unwrap());

        // The controller has answered, and the broker learns of it a moment later.
        let login = self.sasl(name).with("KAFKA_SASL_USERNAME", user).with("KAFKA_SASL_PASSWORD", password);
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = login.connect().await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(POLL).await;
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// The settings of a connection that works.
    fn tls(&self) -> Variables {
        Variables::new(self.tls, "tls").with("KAFKA_CA_FILE", &self.file("ca.pem"))
    }

    fn mutual(&self) -> Variables {
        Variables::new(self.mutual, "tls")
            .with("KAFKA_CA_FILE", &self.file("ca.pem"))
            .with("KAFKA_CLIENT_CERT_FILE", &self.file("client.pem"))
            .with("KAFKA_CLIENT_KEY_FILE", &self.file("client.key"))
    }

    fn sasl(&self, mechanism: &str) -> Variables {
        Variables::new(self.sasl, "sasl")
            .with("KAFKA_CA_FILE", &self.file("ca.pem"))
            .with("KAFKA_SASL_MECHANISM", mechanism)
            .with("KAFKA_SASL_USERNAME", "forebay")
            .with("KAFKA_SASL_PASSWORD", "right")
    }

    /// Makes a user with the password `before`, which is read from `file`.
    async fn login_from_file(&self, user: &str, file: &str) -> Variables {
        self.set_password(user, ScramMechanism::Sha512, "before").await;
        std::fs::write(file, "before\n").unwrap();
        self.sasl("SCRAM-SHA-512")
            .with("KAFKA_BROKERS", &format!("127.0.0.1:{}", self.scram))
            .with("KAFKA_SASL_USERNAME", user)
            .with("KAFKA_SASL_PASSWORD", "")
            .with("KAFKA_SASL_PASSWORD_FILE", file)
    }
}

/// Settings as an operator writes them.
#[derive(Clone, Debug)]
struct Variables(BTreeMap<&'static str, String>);

impl Variables {
    fn new(port: u16, security: &str) -> Self {
        let brokers = format!("127.0.0.1:{port}");
        Variables(BTreeMap::new()).with("KAFKA_BROKERS", &brokers).with("KAFKA_SECURITY", security)
    }

    /// An empty value takes a setting away.
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.insert(name, value.to_owned());
        self
    }

    fn config(&self) -> KafkaConfig {
        let variables: BTreeMap<&str, &str> = self.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut settings = Settings::new(&variables);
        let config = KafkaConfig::from_settings(&mut settings);
        settings.build(config).unwrap()
    }

    async fn connect(&self) -> Result<KafkaClient, KafkaError> {
        KafkaClient::connect(&self.config(), "security").await
    }
}

/// A name that no other test uses.
fn unique() -> &'static str {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    Box::leak(format!("security-{}", COUNTER.fetch_add(1, Ordering::Relaxed)).into_boxed_str())
}

fn record(topic: &'static str, value: &'static str) -> NewRecord {
    NewRecord { topic, key: None, value: Some(Bytes::from(value)), headers: Vec::new() }
}

/// Creates a topic, writes to it and reads it, as a group and without one.
async fn carries_records(client: &KafkaClient) {
    let topic = unique();
    assert_eq!(client.topics().ensure(&[TopicSpec::new(topic, 1)]).await.unwrap(), [TopicChange::Created]);
    let publisher = client.publisher(PublisherOptions::default()).await.unwrap();
    for answer in publisher.publish(vec![record(topic, "a"), record(topic, "b")], PATIENCE).await {
        answer.unwrap();
    }
    let options = ConsumerOptions::new(topic, &[topic], StartingPosition::TrimHorizon);
    let consumer = client.separate().await.unwrap().consumer(options).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut values = Vec::new();
    while values.len() < 2 {
        assert!(Instant::now() < deadline, "{values:?}");
        values.extend(consumer.poll(POLL).await.unwrap().into_iter().map(|record| record.value.unwrap()));
    }
    assert_eq!(values, ["a", "b"]);
    consumer.close(PATIENCE).await.unwrap();
    let mut reader = client.open(topic, &BTreeMap::new()).await.unwrap();
    assert_eq!(reader.read(PATIENCE).await.unwrap().len(), 2);
}

/// The whole chain of an error, as a log shows it.
fn text(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| Error::source(*error));
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Asserts that nothing can be done with these settings, and that the error itself, not only its causes, names
/// `setting`.
async fn is_refused(what: &str, variables: &Variables, setting: &str, tag: &str) {
    let error = variables.connect().await.expect_err(what);
    eprintln!("{what}: {}", text(&error));
    assert!(error.to_string().contains(setting), "{what} does not name {setting}: {}", text(&error));
    assert_eq!((error.class(), error.tag()), (ErrorClass::Transient, tag), "{what}: {}", text(&error));
    let password = variables.0.get("KAFKA_SASL_PASSWORD").filter(|password| !password.is_empty());
    assert!(password.is_none_or(|password| !text(&error).contains(password)), "{what}: {}", text(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn tls_with_an_authority_of_ones_own() {
    let broker = Broker::get().await;
    carries_records(&broker.tls().connect().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn tls_with_a_certificate_of_the_client() {
    let broker = Broker::get().await;
    carries_records(&broker.mutual().connect().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn sasl_with_each_mechanism() {
    let broker = Broker::get().await;
    for mechanism in MECHANISMS {
        carries_records(&broker.sasl(mechanism).connect().await.expect(mechanism)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn a_broker_that_cannot_be_trusted_is_refused() {
    let broker = Broker::get().await;
    let named = |port: u16| format!("localhost:{port}");
    for (security, variables, port) in
        [("tls", broker.tls(), broker.tls), ("sasl", broker.sasl("SCRAM-SHA-512"), broker.sasl)]
    {
        let case = |what: &str| format!("{what} with {security}");
        let wrong = variables.clone().with("KAFKA_CA_FILE", &broker.file("other-ca.pem"));
        is_refused(&case("another authority"), &wrong, "KAFKA_CA_FILE", "auth").await;
        let public = variables.clone().with("KAFKA_CA_FILE", "");
        is_refused(&case("public authorities"), &public, "KAFKA_CA_FILE", "auth").await;
        let name = variables.clone().with("KAFKA_BROKERS", &named(port));
        is_refused(&case("another name"), &name, "KAFKA_BROKERS", "auth").await;
        let missing = variables.clone().with("KAFKA_CA_FILE", "/nowhere/ca.pem");
        is_refused(&case("no such file"), &missing, "KAFKA_CA_FILE", "config").await;
        let empty = variables.with("KAFKA_CA_FILE", &broker.file("names"));
        is_refused(&case("a file without certificates"), &empty, "KAFKA_CA_FILE", "config").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn a_client_without_the_right_certificate_is_refused() {
    let broker = Broker::get().await;
    let files = ["KAFKA_CLIENT_CERT_FILE", "KAFKA_CLIENT_KEY_FILE"];
    let [certificate, key] = files;
    let none = broker.mutual().with(certificate, "").with(key, "");
    is_refused("no certificate", &none, certificate, "network").await;
    let stranger =
        broker.mutual().with(certificate, &broker.file("stranger.pem")).with(key, &broker.file("stranger.key"));
    is_refused("a certificate of another authority", &stranger, certificate, "network").await;
    let mixed = broker.mutual().with(key, &broker.file("stranger.key"));
    is_refused("another certificate's key", &mixed, key, "config").await;
    for name in files {
        let missing = broker.mutual().with(name, "/nowhere/file.pem");
        is_refused("no such file", &missing, name, "config").await;
        let empty = broker.mutual().with(name, &broker.file("names"));
        is_refused("a file without it", &empty, name, "config").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn a_wrong_login_is_refused() {
    let broker = Broker::get().await;
    for mechanism in MECHANISMS {
        let case = |what: &str| format!("{what} with {mechanism}");
        let password = broker.sasl(mechanism).with("KAFKA_SASL_PASSWORD", "a-wr0ng-one");
        is_refused(&case("a wrong password"), &password, "KAFKA_SASL_PASSWORD", "auth").await;
        let user = broker.sasl(mechanism).with("KAFKA_SASL_USERNAME", "nobody");
        is_refused(&case("an unknown user"), &user, "KAFKA_SASL_USERNAME", "auth").await;
        if mechanism != "SCRAM-SHA-512" {
            let brokers = format!("127.0.0.1:{}", broker.scram);
            let other = broker.sasl(mechanism).with("KAFKA_BROKERS", &brokers);
            is_refused(&case("a broker without it"), &other, "KAFKA_SASL_MECHANISM", "auth").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn another_security_than_the_listeners_is_refused() {
    let broker = Broker::get().await;
    let at = |port: u16| format!("127.0.0.1:{port}");
    let sasl = broker.sasl("PLAIN");
    for (what, variables, tag) in [
        ("tls at plaintext", broker.tls().with("KAFKA_BROKERS", &broker.plaintext), "network"),
        ("sasl at plaintext", sasl.clone().with("KAFKA_BROKERS", &broker.plaintext), "network"),
        ("sasl at tls", sasl.with("KAFKA_BROKERS", &at(broker.tls)), "auth"),
        ("tls at sasl", broker.tls().with("KAFKA_BROKERS", &at(broker.sasl)), "network"),
        ("plaintext at tls", Variables::new(broker.tls, "plaintext"), "network"),
        ("plaintext at sasl", Variables::new(broker.sasl, "plaintext"), "network"),
    ] {
        is_refused(what, &variables, "KAFKA_SECURITY", tag).await;
    }
}

/// Not a matter of security, but of the services that need it: some brokers refuse what they cannot read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn batches_are_compressed_as_configured() {
    let broker = Broker::get().await;
    // The numbers of Kafka's message format.
    for (compression, number) in [("none", 0), ("gzip", 1), ("lz4", 3), ("", 3)] {
        let client = broker.tls().with("KAFKA_COMPRESSION", compression).connect().await.unwrap();
        let topic = unique();
        client.topics().ensure(&[TopicSpec::new(topic, 1)]).await.unwrap();
        let publisher = client.publisher(PublisherOptions::default()).await.unwrap();
        let long = NewRecord { value: Some(Bytes::from("a".repeat(10_000))), ..record(topic, "") };
        publisher.publish(vec![long], PATIENCE).await.pop().unwrap().unwrap();
        let log = broker.folder.join(format!("data/{topic}-0/00000000000000000000.log"));
        // The lowest bits of a batch's attributes, which follow offset, length, epoch, magic and checksum.
        let attributes = std::fs::read(log).unwrap()[22];
        assert_eq!(attributes & 0b111, number, "{compression}");
    }
}

/// A password is replaced while a function is warm: what a broker has accepted goes on until it asks again, what it
/// then refuses may be tried again, and succeeds with the new password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn a_rotated_password_is_read_again() {
    let broker = Broker::get().await;
    let (user, file) = ("rotating", broker.file("password"));
    let variables = broker.login_from_file(user, &file).await;
    let client = variables.connect().await.unwrap();
    let (topic, topics) = (unique(), client.topics());
    topics.ensure(&[TopicSpec::new(topic, 1)]).await.unwrap();
    let publisher = client.publisher(PublisherOptions::default()).await.unwrap();
    publisher.publish(vec![record(topic, "before")], PATIENCE).await.pop().unwrap().unwrap();

    broker.set_password(user, ScramMechanism::Sha512, "after").await;
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        assert!(Instant::now() < deadline, "the broker never asked again");
        match publisher.publish(vec![record(topic, "between")], PATIENCE).await.pop().unwrap() {
            Ok(_) => tokio::time::sleep(POLL).await,
            Err(error) => break error,
        }
    };
    assert_eq!((refused.class, refused.tag), (ErrorClass::Transient, "auth"), "{}", text(&refused));
    assert!(text(&refused).contains("KAFKA_SASL_PASSWORD"), "{}", text(&refused));

    std::fs::remove_file(&file).unwrap();
    let unread = publisher.publish(vec![record(topic, "between")], PATIENCE).await.pop().unwrap().unwrap_err();
    assert_eq!((unread.class, unread.tag), (ErrorClass::Transient, "auth"), "{}", text(&unread));

    std::fs::write(&file, "after\n").unwrap();
    publisher.publish(vec![record(topic, "after")], PATIENCE).await.pop().unwrap().unwrap();
    assert_eq!(topics.ensure(&[TopicSpec::new(topic, 1)]).await.unwrap(), [TopicChange::Unchanged]);
    carries_records(&client).await;
}

/// The same for a member of a group, which polls for as long as its process lives: records that come after the rotation are
/// read with the new password, and what was committed is not read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java for Apache Kafka: `make kafka-contract` runs it"]
async fn a_member_of_a_group_joins_again_with_a_rotated_password() {
    let broker = Broker::get().await;
    let (user, file) = ("polling", broker.file("password-of-the-member"));
    let variables = broker.login_from_file(user, &file).await;
    let topic = unique();
    let others = broker.tls().connect().await.unwrap();
    others.topics().ensure(&[TopicSpec::new(topic, 1)]).await.unwrap();
    let publisher = others.publisher(PublisherOptions::default()).await.unwrap();
    let publish = async |value| {
        publisher.publish(vec![record(topic, value)], PATIENCE).await.pop().unwrap().unwrap();
    };
    publish("before").await;
    let options = ConsumerOptions::new(topic, &[topic], StartingPosition::TrimHorizon);
    let member = variables.connect().await.unwrap().consumer(options).await.unwrap();
    let mut changes = Vec::new();
    let first = next_record(&member, &mut changes).await;
    assert_eq!(first.value.as_deref(), Some(&b"before"[..]));
    let next = Position { offset: first.position.offset + 1, ..first.position };
    member.commit(&[next]).await.unwrap();

    broker.set_password(user, ScramMechanism::Sha512, "after").await;
    // Long enough for the broker to ask again.
    let refused = Instant::now() + Duration::from_millis(2 * SESSION_MS);
    while Instant::now() < refused {
        let _refused = member.poll(POLL).await;
    }
    std::fs::write(&file, "after\n").unwrap();
    publish("after").await;
    let second = next_record(&member, &mut changes).await;
    assert_eq!(second.value.as_deref(), Some(&b"after"[..]));
    let owned = vec![TopicPartition::new(topic, 0)];
    assert_eq!(
        changes,
        [Rebalance::Assigned(owned.clone()), Rebalance::Lost(owned.clone()), Rebalance::Assigned(owned.clone())]
    );
    assert_eq!(member.assignment().await, owned);
    let next = Position { offset: second.position.offset + 1, ..second.position };
    member.commit(&[next]).await.unwrap();
    member.close(PATIENCE).await.unwrap();
}

/// Polls until there is a record, whatever fails meanwhile.
async fn next_record(member: &GroupConsumer, changes: &mut Vec<Rebalance>) -> Record {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let polled = member.poll(POLL).await;
        changes.extend(member.take_rebalances());
        match polled {
            Ok(records) if records.is_empty() => {}
            Ok(mut records) => return records.remove(0),
            Err(error) => eprintln!("{}", text(&error)),
        }
        assert!(Instant::now() < deadline, "no record comes; {changes:?}");
    }
}
