//! A secret is replaced while the pool lives.

use std::path::Path;
use std::sync::{Arc, Mutex};

use pipeline::ErrorClass;
use postgres::Database;
use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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

/// PgBouncer refuses a password with a code of its own. This stands for it, with the bytes of version 1.18.
#[tokio::test]
async fn a_password_that_a_pooler_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let password = Arc::new(Mutex::new("before"));
    let known = Arc::clone(&password);
    tokio::spawn(async move {
        // Kept, or the connections would end.
        let mut clients = Vec::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let known = *known.lock().unwrap();
            pooler_knows(&mut client, known).await.unwrap();
            clients.push(client);
        }
    });
    let file = Server::get().await.file();
    write(&file, "before");
    let variables = Variables(Default::default())
        .with("DB_HOST", "127.0.0.1")
        .with("DB_PORT", &port.to_string())
        .with("DB_NAME", "forebay")
        .with("DB_USER", "forebay")
        .with("DB_PASSWORD_FILE", file.to_str().unwrap())
        .with("DB_SSLMODE", "disable")
        .with("DB_POOLER", "transaction");
    let database = variables.connect().await.unwrap();
    let _before = database.connection().await.unwrap();

    *password.lock().unwrap() = "after";
    let refused = database.connection().await.unwrap_err();
    assert!(refused.to_string().contains("DB_PASSWORD"), "{}", text(&refused));
    write(&file, "after");
    let _after = database.connection().await.unwrap();
}

/// Answers the start of a connection: asks for the password in clear text.
async fn pooler_knows(client: &mut TcpStream, password: &str) -> io::Result<()> {
    let length = client.read_u32().await?;
    client.read_exact(&mut vec![0; length as usize - 4]).await?;
    client.write_all(b"R\0\0\0\x08\0\0\0\x03").await?;
    let _password_message = client.read_u8().await?;
    let length = client.read_u32().await?;
    let mut sent = vec![0; length as usize - 4];
    client.read_exact(&mut sent).await?;
    if sent.strip_suffix(b"\0") == Some(password.as_bytes()) {
        client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await
    } else {
        client.write_all(b"E\0\0\0/SFATAL\0C08P01\0MSASL authentication failed\0\0").await
    }
}
