//! `KAFKA_SECURITY=iam`, checked as MSK does: a stub of a broker recomputes the signature of the login with the secret key. What
//! is accepted goes on to the embedded Kafka.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use bytes::Bytes;
use kafka::{
    Bootstrap, Compression, KafkaClient, KafkaConfig, KafkaError, KafkaPublisher, PublisherOptions, Security, TlsFiles,
    TopicSpec,
};
use pipeline::ErrorClass;
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::ports::{NewRecord, RecordPublisher as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use services::certificates;
use services::kafka::EmbeddedKafka;
use tempfile::TempDir;
use testkit::presigned::{KnownKey, Refusal};
use testkit::role::Role;

const REGION: &str = "eu-west-1";
const TOPIC: &str = "signed";
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a signature is valid.
const EXPIRY: Duration = Duration::from_secs(16 * 60);

/// Keys and codes of the protocol.
const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;
const UNSUPPORTED_MECHANISM: i16 = 33;
const AUTHENTICATION_FAILED: i16 = 58;
const MECHANISM: &str = "AWS_MSK_IAM";

/// What the members of a login are called in the request that is signed.
const PARAMETERS: [(&str, &str); 8] = [
    ("action", "Action"),
    ("x-amz-algorithm", "X-Amz-Algorithm"),
    ("x-amz-credential", "X-Amz-Credential"),
    ("x-amz-date", "X-Amz-Date"),
    ("x-amz-expires", "X-Amz-Expires"),
    ("x-amz-security-token", "X-Amz-Security-Token"),
    ("x-amz-signature", "X-Amz-Signature"),
    ("x-amz-signedheaders", "X-Amz-SignedHeaders"),
];

/// A cluster of one broker that asks for IAM over TLS.
struct Msk {
    config: KafkaConfig,
    account: Arc<Mutex<Account>>,
    _files: TempDir,
    _kafka: EmbeddedKafka,
}

struct Account {
    key: KnownKey,
    /// How far the broker's clock is ahead of ours.
    ahead: Duration,
    /// How long a login is good for; a connection that goes on without another one is ended.
    session: Duration,
    accepted: u32,
    refused: Vec<Refusal>,
}

impl Msk {
    async fn start(key: KnownKey) -> Self {
        let files = tempfile::tempdir().unwrap();
        certificates::authority(files.path(), "ca").unwrap();
        certificates::certificate(files.path(), "ca", "broker").unwrap();
        let tls = Arc::new(server_tls(files.path()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let kafka = EmbeddedKafka::start_announced(None, Some(port)).await.unwrap();
        let account = Account { key, ahead: Duration::ZERO, session: PATIENCE, accepted: 0, refused: Vec::new() };
        let account = Arc::new(Mutex::new(account));
        let (known, upstream) = (Arc::clone(&account), kafka.brokers());
        // Threads, because TLS of rustls alone is blocking. They end with the process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (tls, known, upstream) = (Arc::clone(&tls), Arc::clone(&known), upstream.clone());
                std::thread::spawn(move || serve(client.unwrap(), tls, &known, &upstream));
            }
        });
        let config = KafkaConfig {
            bootstrap: Bootstrap::Brokers(format!("127.0.0.1:{port}")),
            security: Security::Iam(TlsFiles { ca: Some(files.path().join("ca.pem")), client: None }),
            compression: Compression::default(),
        };
        Msk { config, account, _files: files, _kafka: kafka }
    }

    async fn connect(&self, sdk: SdkConfig) -> Result<KafkaClient, KafkaError> {
        KafkaClient::connect_as(&self.config, "iam", sdk).await
    }

    /// How many logins were accepted, and why others were refused.
    fn answers(&self) -> (u32, Vec<Refusal>) {
        let account = self.account.lock().unwrap();
        (account.accepted, account.refused.clone())
    }
}

impl Account {
    fn check(&mut self, login: &[u8]) -> Result<(), Refusal> {
        let checked = self.check_signature(login);
        match checked {
            Ok(()) => self.accepted += 1,
            Err(refusal) => self.refused.push(refusal),
        }
        checked
    }

    fn check_signature(&self, login: &[u8]) -> Result<(), Refusal> {
        let login: BTreeMap<String, String> = serde_json::from_slice(login).map_err(|_| Refusal::Malformed("JSON"))?;
        let is = |member: &str, value: &str| login.get(member).is_some_and(|is| is == value);
        if !is("version", "2020_10_22") || !is("action", "kafka-cluster:Connect") || !is("host", "127.0.0.1") {
            return Err(Refusal::Malformed("version, action or host"));
        }
        let parameters = PARAMETERS.iter().filter_map(|(member, name)| Some(((*name).to_owned(), login.get(*member)?)));
        let parameters = parameters.map(|(name, value)| (name, value.clone())).collect();
        self.key.check("127.0.0.1", &parameters, SystemClock.now().plus(self.ahead))
    }
}

fn server_tls(files: &Path) -> ServerConfig {
    let certificates = CertificateDer::pem_file_iter(files.join("broker.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(files.join("broker.key")).unwrap();
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap()
}

/// Answers the requests of a login, and passes the others on once it was accepted.
fn serve(client: TcpStream, tls: Arc<ServerConfig>, account: &Mutex<Account>, upstream: &str) {
    let mut client = StreamOwned::new(ServerConnection::new(tls).unwrap(), client);
    let mut upstream = TcpStream::connect(upstream).unwrap();
    let mut until = Instant::now();
    // A client that goes away ends the connection with an error, which is no fault.
    while let Ok(request) = read_frame(&mut client) {
        let answer = match api_key(&request) {
            SASL_HANDSHAKE => handshake(&request),
            SASL_AUTHENTICATE => {
                let mut account = account.lock().unwrap();
                let checked = account.check(authentication(&request));
                if checked.is_ok() {
                    until = Instant::now() + account.session;
                }
                authenticated(&request, checked, account.session)
            }
            key if key == API_VERSIONS || Instant::now() < until => {
                write_frame(&mut upstream, &request).unwrap();
                let Ok(answer) = read_frame(&mut upstream) else { return };
                answer
            }
            _ => return,
        };
        if write_frame(&mut client, &answer).is_err() {
            return;
        }
    }
}

fn read_frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
    to.write_all(&[&length[..], frame].concat())?;
    to.flush()
}

fn api_key(request: &[u8]) -> i16 {
    i16::from_be_bytes(request[..2].try_into().unwrap())
}

fn correlation_id(request: &[u8]) -> &[u8] {
    &request[4..8]
}

/// What follows the header: key, version, correlation id and the client's name.
fn body(request: &[u8]) -> &[u8] {
    let name = i16::from_be_bytes(request[8..10].try_into().unwrap());
    &request[10 + usize::try_from(name).unwrap_or(0)..]
}

/// The bytes of `SaslAuthenticate` v1.
fn authentication(request: &[u8]) -> &[u8] {
    &body(request)[4..]
}

/// The answer to `SaslHandshake` v1.
fn handshake(request: &[u8]) -> Vec<u8> {
    let code = if &body(request)[2..] == MECHANISM.as_bytes() { 0 } else { UNSUPPORTED_MECHANISM };
    [correlation_id(request), &code.to_be_bytes(), &1_i32.to_be_bytes(), &string(MECHANISM)].concat()
}

/// The answer to `SaslAuthenticate` v1.
fn authenticated(request: &[u8], checked: Result<(), Refusal>, session: Duration) -> Vec<u8> {
    let (code, message) = match checked {
        Ok(()) => (0, (-1_i16).to_be_bytes().to_vec()),
        Err(Refusal::Expired) => (AUTHENTICATION_FAILED, string("Signature expired")),
        Err(_) => (AUTHENTICATION_FAILED, string("Access denied")),
    };
    let session = i64::try_from(session.as_millis()).unwrap();
    [correlation_id(request), &code.to_be_bytes(), &message, &0_i32.to_be_bytes(), &session.to_be_bytes()].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&i16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// What AWS knows of a role.
fn key(role: &Role) -> KnownKey {
    role.key(REGION, "kafka-cluster")
}

async fn publisher(client: &KafkaClient) -> KafkaPublisher {
    client.topics().ensure(&[TopicSpec::new(TOPIC, 1)]).await.unwrap();
    client.publisher(PublisherOptions::default()).await.unwrap()
}

async fn publish(publisher: &KafkaPublisher) {
    let record = NewRecord { topic: TOPIC, key: None, value: Some(Bytes::from("signed")), headers: Vec::new() };
    publisher.publish(vec![record], PATIENCE).await.pop().unwrap().unwrap();
}

/// The whole chain of an error, as a log shows it.
fn text(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| Error::source(*error));
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

async fn is_refused(what: &str, msk: &Msk, role: &Role, region: &'static str, refusal: Refusal) {
    let error = msk.connect(role.sdk(region)).await.expect_err(what);
    eprintln!("{what}: {}", text(&error));
    assert_eq!((error.class(), error.tag()), (ErrorClass::Transient, "auth"), "{what}: {}", text(&error));
    for named in ["KAFKA_SECURITY=iam", "kafka-cluster:Connect", "AWS_REGION", "clock"] {
        assert!(error.to_string().contains(named), "{what} does not name {named}: {}", text(&error));
    }
    let (accepted, refused) = msk.answers();
    assert_eq!((accepted, refused.last()), (0, Some(&refusal)), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_key_is_accepted() {
    // With the characters that tokens of AWS have.
    for session in [None, Some("IQoJb3JpZ2luX2VjE//+==")] {
        let role = Role::new("AKID", "right", session);
        let msk = Msk::start(key(&role)).await;
        let client = msk.connect(role.sdk(REGION)).await.unwrap();
        publish(&publisher(&client).await).await;
        let (accepted, refused) = msk.answers();
        assert!(accepted > 0 && refused.is_empty(), "{accepted} {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_refused() {
    let right = Role::new("AKID", "right", None);
    for (what, id, secret, session, region, refusal) in [
        ("another secret key", "AKID", "wrong", None, REGION, Refusal::Signature),
        ("another key", "AKID2", "right", None, REGION, Refusal::NotThisKey),
        ("a session that is not the key's", "AKID", "right", Some("session"), REGION, Refusal::NotThisKey),
        ("another region", "AKID", "right", None, "eu-central-1", Refusal::NotThisKey),
    ] {
        let msk = Msk::start(key(&right)).await;
        is_refused(what, &msk, &Role::new(id, secret, session), region, refusal).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_signature_is_refused() {
    let role = Role::new("AKID", "right", None);
    let msk = Msk::start(key(&role)).await;
    msk.account.lock().unwrap().ahead = EXPIRY;
    is_refused("a wrong clock", &msk, &role, REGION, Refusal::Expired).await;
}

/// The broker ends sessions, and the role's credentials are replaced meanwhile, as Lambda does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_session_begins_with_the_credentials_of_its_time() {
    let role = Role::new("AKID", "before", Some("session of before"));
    let msk = Msk::start(key(&role)).await;
    msk.account.lock().unwrap().session = Duration::from_secs(1);
    let client = msk.connect(role.sdk(REGION)).await.unwrap();
    let publisher = publisher(&client).await;
    publish(&publisher).await;
    let (before, _) = msk.answers();

    // The old key is not known any more.
    role.replace("AKID2", "after", Some("session of after"));
    msk.account.lock().unwrap().key = key(&role);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        publish(&publisher).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (after, refused) = msk.answers();
    assert!(after >= before + 2 && refused.is_empty(), "{before} {after} {refused:?}");
}
