//! Tokens of IAM as passwords, over TLS to a real server. It asks a stub of LDAP, which recomputes the signature of the
//! token as RDS does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use event::Timestamp;
use pipeline::ErrorClass;
use pipeline::clock::Clock;
use postgres::{Database, PostgresConfig, PostgresError};
use testkit::presigned::{KnownKey, Refusal};
use testkit::role::Role;

use crate::{PATIENCE, PAUSE, Server, ldap, text, user_of_a_new_connection};

const REGION: &str = "eu-west-1";
/// Longer than a token is valid.
const EXPIRY: Duration = Duration::from_secs(16 * 60);

/// The users of IAM by their names in the database.
type Users = Arc<Mutex<BTreeMap<String, User>>>;

pub struct Stub {
    pub port: u16,
    users: Users,
}

struct User {
    key: KnownKey,
    /// `host:port` of the server.
    server: String,
    clock: MovedClock,
    accepted: u32,
    refused: Vec<Refusal>,
}

impl Stub {
    pub fn start() -> Self {
        let users = Users::default();
        let known = Arc::clone(&users);
        let port = ldap::serve(move |name, token| {
            let mut users = known.lock().unwrap();
            let user = name.strip_prefix("cn=").and_then(|name| users.get_mut(name).map(|user| (name, user)));
            user.is_some_and(|(name, user)| user.knows(name, token))
        });
        Stub { port, users }
    }
}

impl User {
    fn knows(&mut self, name: &str, token: &str) -> bool {
        let checked = self.check(name, token);
        match checked {
            Ok(()) => self.accepted += 1,
            Err(refusal) => self.refused.push(refusal),
        }
        checked.is_ok()
    }

    /// A token is a URL without its scheme.
    fn check(&self, name: &str, token: &str) -> Result<(), Refusal> {
        let (host, query) = token.split_once("/?").ok_or(Refusal::Malformed("token"))?;
        let parameters: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let is = |parameter: &str, value: &str| parameters.get(parameter).is_some_and(|is| is == value);
        if host != self.server || !is("Action", "connect") || !is("DBUser", name) {
            return Err(Refusal::Malformed("host, action or user"));
        }
        self.key.check(host, &parameters, self.clock.now())
    }
}

/// A clock that stands until it is moved.
#[derive(Clone, Debug)]
struct MovedClock(Arc<AtomicI64>);

impl MovedClock {
    fn new() -> Self {
        MovedClock(Arc::new(AtomicI64::new(1_764_204_000_000)))
    }

    fn move_by(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// What AWS knows of a role.
fn key(role: &Role) -> KnownKey {
    role.key(REGION, "rds-db")
}

/// A user of the database that is one of IAM, with its settings and a clock for both sides.
struct Login {
    server: &'static Server,
    user: String,
    config: PostgresConfig,
    clock: MovedClock,
}

impl Login {
    async fn new(key: KnownKey) -> Self {
        let server = Server::get().await;
        let user = server.role("has none").await;
        server.execute(&format!("GRANT rds_iam TO {user}")).await;
        let variables = server.variables(&user).with("DB_AUTH", "iam").with("DB_SSLMODE", "require");
        let config = variables.with("DB_CA_FILE", &server.certificate("ca.pem")).config();
        let clock = MovedClock::new();
        let known = User {
            key,
            server: format!("127.0.0.1:{}", server.process.port()),
            clock: clock.clone(),
            accepted: 0,
            refused: Vec::new(),
        };
        server.iam.users.lock().unwrap().insert(user.clone(), known);
        Login { server, user, config, clock }
    }

    async fn connect(&self, sdk: SdkConfig) -> Result<Database, PostgresError> {
        Database::connect_as(&self.config, sdk, Arc::new(self.clock.clone())).await
    }

    fn replace_key(&self, key: KnownKey) {
        self.server.iam.users.lock().unwrap().get_mut(&self.user).unwrap().key = key;
    }

    /// How many tokens the server accepted, and why it refused others.
    fn answers(&self) -> (u32, Vec<Refusal>) {
        let users = self.server.iam.users.lock().unwrap();
        let user = &users[&self.user];
        (user.accepted, user.refused.clone())
    }
}

#[tokio::test]
async fn a_token_is_the_password() {
    // With the characters that tokens of AWS have.
    for session in [None, Some("IQoJb3JpZ2luX2VjE//+==")] {
        let role = Role::new("AKID", "right", session);
        let login = Login::new(key(&role)).await;
        let database = login.connect(role.sdk(REGION)).await.unwrap();
        assert_eq!(user_of_a_new_connection(&database).await.0, login.user);
        assert_eq!(login.answers(), (1, vec![]));
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let right = Role::new("AKID", "right", None);
    for (what, id, secret, region, refusal) in [
        ("another secret key", "AKID", "wrong", REGION, Refusal::Signature),
        ("another key", "AKID2", "right", REGION, Refusal::NotThisKey),
        ("another region", "AKID", "right", "eu-central-1", Refusal::NotThisKey),
    ] {
        let login = Login::new(key(&right)).await;
        let error = login.connect(Role::new(id, secret, None).sdk(region)).await.expect_err(what);
        eprintln!("{what}: {}", text(&error));
        assert_eq!((error.class(), error.tag()), (ErrorClass::Transient, "refused"), "{what}: {}", text(&error));
        assert!(error.to_string().contains("DB_AUTH=iam"), "{what}: {}", text(&error));
        assert!(!text(&error).contains("X-Amz-Signature"), "{what}: {}", text(&error));
        assert_eq!(login.answers(), (0, vec![refusal]), "{what}");
    }
}

/// The pool lives longer than its first token: connections go on, new ones have new tokens, and none is refused.
#[tokio::test]
async fn a_new_connection_after_the_expiry_has_a_new_token() {
    let role = Role::new("AKID", "right", None);
    let login = Login::new(key(&role)).await;
    let database = login.connect(role.sdk(REGION)).await.unwrap();
    let (_, first) = user_of_a_new_connection(&database).await;
    login.clock.move_by(EXPIRY);
    first.batch_execute("SELECT 1").await.unwrap();
    let (user, second) = user_of_a_new_connection(&database).await;
    assert_eq!((user, login.answers()), (login.user.clone(), (2, vec![])));

    // The server ends all of them, as a failover does.
    login.clock.move_by(EXPIRY);
    let user = &login.user;
    login
        .server
        .execute(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"))
        .await;
    let ended = async {
        while !(first.is_closed() && second.is_closed()) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    drop((first, second));
    let (user, _third) = user_of_a_new_connection(&database).await;
    assert_eq!((user, login.answers()), (login.user.clone(), (3, vec![])));
}

/// Credentials of a role may end before a token that was made with them.
#[tokio::test]
async fn a_young_token_that_is_refused_is_replaced_at_once() {
    let role = Role::new("AKID", "before", Some("session of before"));
    let login = Login::new(key(&role)).await;
    let database = login.connect(role.sdk(REGION)).await.unwrap();
    let (_, _first) = user_of_a_new_connection(&database).await;
    role.replace("AKID2", "after", Some("session of after"));
    login.replace_key(key(&role));
    let (user, _second) = user_of_a_new_connection(&database).await;
    assert_eq!((user, login.answers()), (login.user.clone(), (2, vec![Refusal::NotThisKey])));
}

/// A machine whose clock is behind makes tokens that have expired already.
#[tokio::test]
async fn a_clock_that_is_wrong_is_refused() {
    let role = Role::new("AKID", "right", None);
    let login = Login::new(key(&role)).await;
    let behind = MovedClock::new();
    login.clock.move_by(EXPIRY);
    let error = Database::connect_as(&login.config, role.sdk(REGION), Arc::new(behind)).await.unwrap_err();
    assert!(error.to_string().contains("clock"), "{}", text(&error));
    assert_eq!(login.answers(), (0, vec![Refusal::Expired]));
}
