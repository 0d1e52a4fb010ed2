//! A secret is replaced while the pool lives.

use std::path::Path;

use pipeline::ErrorClass;
use postgres::Database;

use crate::{Server, Variables, text, user_of_a_new_connection};

/// Everything of a rotation: what is connected stays so; between the change at the server and that of the secret a new
/// connection is refused; with the new secret the next attempt succeeds. `replace` writes the new secret.
async fn survives(server: &Server, role: &str, variables: &Variables, replace: impl FnOnce()) {
    let database = variables.connect().await.unwrap();
    let (user, before) = user_of_a_new_connection(&database).await;
    assert_eq!(user, role);

    server.set_password(role, "after").await;
    let refused = database.connection().await.unwrap_err();
    assert_eq!((refused.class(), refused.tag()), (ErrorClass::Transient, "refused"), "{}", text(&refused));
    before.batch_execute("SELECT 1").await.unwrap();

    replace();
    let (user, _after) = user_of_a_new_connection(&database).await;
    assert_eq!(user, role);
    before.batch_execute("SELECT 1").await.unwrap();
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_password_in_a_file() {
    let server = Server::get().await;
    let role = server.role("before").await;
    let file = server.file();
    write(&file, "before\n");
    let variables = server.variables(&role).with("DB_PASSWORD_FILE", file.to_str().unwrap());
    survives(server, &role, &variables, || write(&file, "after\n")).await;
}

#[tokio::test]
async fn a_url_in_a_file() {
    let server = Server::get().await;
    let role = server.role("before").await;
    let file = server.file();
    let url = |password| format!("postgres://{role}:{password}@127.0.0.1:{}/forebay", server.process.port());
    write(&file, &url("before"));
    let variables = Variables(Default::default()).with("DATABASE_URL_FILE", file.to_str().unwrap());
    survives(server, &role, &variables, || write(&file, &url("after"))).await;
}

/// As the rotation with alternating users does: the secret names another user, whose password is new.
#[tokio::test]
async fn a_secret_with_another_user() {
    let server = Server::get().await;
    let roles = [server.role("of the first").await, server.role("of the second").await];
    let file = server.file();
    let secret = |role: &str, password| format!(r#"{{"username":"{role}","password":"{password}","port":1}}"#);
    write(&file, &secret(&roles[0], "of the first"));
    let variables = server.variables("").with("DB_PASSWORD_FILE", file.to_str().unwrap());
    let database = variables.connect().await.unwrap();
    let (user, _first) = user_of_a_new_connection(&database).await;
    assert_eq!(user, roles[0]);

    write(&file, &secret(&roles[1], "of the second"));
    server.set_password(&roles[0], "of nobody").await;
    let (user, _second) = user_of_a_new_connection(&database).await;
    assert_eq!(user, roles[1]);
}

/// Many callers at once need connections, and each gets one.
#[tokio::test]
async fn every_caller_gets_the_new_password() {
    let server = Server::get().await;
    let role = server.role("before").await;
    let file = server.file();
    write(&file, "before");
    let variables = server.variables(&role).with("DB_PASSWORD_FILE", file.to_str().unwrap()).with("DB_POOL_SIZE", "8");
    let database: Database = variables.connect().await.unwrap();
    server.set_password(&role, "after").await;
    write(&file, "after");
    let callers = (0..8).map(|_| database.connection());
    for connection in futures::future::join_all(callers).await {
        connection.unwrap().batch_execute("SELECT 1").await.unwrap();
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_again_is_named() {
    let server = Server::get().await;
    let role = server.role("before").await;
    let file = server.file();
    write(&file, "before");
    let variables = server.variables(&role).with("DB_PASSWORD_FILE", file.to_str().unwrap());
    let database = variables.connect().await.unwrap();
    let _kept = database.connection().await.unwrap();
    server.set_password(&role, "after").await;

    std::fs::remove_file(&file).unwrap();
    let unread = database.connection().await.unwrap_err();
    assert_eq!((unread.class(), unread.tag()), (ErrorClass::Transient, "no-password"), "{}", text(&unread));
    assert!(
        text(&unread).contains("DB_PASSWORD") && text(&unread).contains(file.to_str().unwrap()),
        "{}",
        text(&unread)
    );

    write(&file, "after");
    database.connection().await.unwrap().batch_execute("SELECT 1").await.unwrap();
}
