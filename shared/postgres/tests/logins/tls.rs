//! TLS and logins: what is right connects, what is wrong is refused with an error that names the setting.

use pipeline::ErrorClass;
use services::postgres::ThrowAwayPostgres;

use crate::{Server, Variables, text};

/// The settings of a connection that works: the role may connect with TLS only.
async fn encrypted(server: &Server) -> Variables {
    let role = server.role("s3cret").await;
    server.execute(&format!("GRANT encrypted TO {role}")).await;
    let variables = server.variables(&role).with("DB_PASSWORD", "s3cret").with("DB_SSLMODE", "require");
    variables.with("DB_CA_FILE", &server.certificate("ca.pem"))
}

/// The settings as a URL, with `host` as the server's name and the same address.
fn as_url(variables: &Variables, host: &str, options: &str) -> Variables {
    let part = |name: &str| variables.0[name].as_str();
    let (user, password, port) = (part("DB_USER"), part("DB_PASSWORD"), part("DB_PORT"));
    let url = format!("postgres://{user}:{password}@{host}:{port}/forebay?hostaddr=127.0.0.1&{options}");
    Variables(Default::default()).with("DATABASE_URL", &url).with("DB_CA_FILE", part("DB_CA_FILE"))
}

/// Asserts that nothing can be done with these settings, and that the error itself, not only its causes, names each of
/// `settings`.
async fn is_refused(what: &str, variables: &Variables, settings: &[&str], tag: &str) {
    let error = variables.connect().await.expect_err(what);
    eprintln!("{what}: {}", text(&error));
    for setting in settings {
        assert!(error.to_string().contains(setting), "{what} does not name {setting}: {}", text(&error));
    }
    assert_eq!((error.class(), error.tag()), (ErrorClass::Transient, tag), "{what}: {}", text(&error));
    for password in ["s3cret", "a-wr0ng-one"] {
        assert!(!text(&error).contains(password), "{what}: {}", text(&error));
    }
}

#[tokio::test]
async fn what_is_right_connects_with_tls() {
    let server = Server::get().await;
    let variables = encrypted(server).await;
    for variables in [variables.clone(), as_url(&variables, "127.0.0.1", "sslmode=require")] {
        let database = variables.connect().await.unwrap();
        let client = database.connection().await.unwrap();
        let row = client.query_typed_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await;
        assert!(row.unwrap().get::<_, bool>(0), "{variables:?}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_refused() {
    let server = Server::get().await;
    let variables = encrypted(server).await;
    let authority = |file: &str| variables.clone().with("DB_CA_FILE", file);
    let other = authority(&server.certificate("other-ca.pem"));
    is_refused("another authority", &other, &["DB_CA_FILE"], "tls").await;
    is_refused("public authorities", &authority(""), &["DB_CA_FILE"], "tls").await;
    is_refused("no such file", &authority("/nowhere/ca.pem"), &["DB_CA_FILE"], "tls").await;
    let empty = authority(&server.certificate("names"));
    is_refused("a file without certificates", &empty, &["DB_CA_FILE"], "tls").await;
    let name = as_url(&variables, "db.example", "sslmode=require");
    is_refused("another name", &name, &["DB_HOST", "DATABASE_URL"], "tls").await;
}

#[tokio::test]
async fn a_wrong_login_is_refused() {
    let server = Server::get().await;
    let variables = encrypted(server).await;
    let password = variables.clone().with("DB_PASSWORD", "a-wr0ng-one");
    is_refused("a wrong password", &password, &["DB_PASSWORD", "DATABASE_URL"], "refused").await;
    is_refused("the same in a URL", &as_url(&password, "127.0.0.1", ""), &["DATABASE_URL"], "refused").await;
    let user = variables.clone().with("DB_USER", "nobody");
    is_refused("an unknown user", &user, &["DB_USER"], "refused").await;
    let database = variables.with("DB_NAME", "elsewhere");
    is_refused("an unknown database", &database, &["DB_NAME"], "refused").await;
}

#[tokio::test]
async fn another_encryption_than_the_servers_is_refused() {
    let server = Server::get().await;
    let variables = encrypted(server).await;
    let plain = variables.clone().with("DB_SSLMODE", "disable");
    is_refused("no TLS where it is required", &plain, &["DB_SSLMODE", "DATABASE_URL"], "refused").await;
    let without = ThrowAwayPostgres::start(None, None).await.unwrap();
    let tls = variables.with("DB_PORT", &without.port().to_string());
    is_refused("TLS where there is none", &tls, &["DB_SSLMODE", "DATABASE_URL"], "unavailable").await;
}
