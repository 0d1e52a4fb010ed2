//! The secret that RDS manages in Secrets Manager, asked for at a stub. `aws::secrets` tests the request itself.

use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use pipeline::clock::SystemClock;
use postgres::Database;
use testkit::role::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{Server, user_of_a_new_connection};

/// `rds!cluster-…` is the name that RDS gives.
const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!cluster-1a2b-AbCdEf";

/// A Secrets Manager with one secret.
struct Stub {
    endpoint: String,
    secret: Arc<Mutex<String>>,
    /// How often it was asked.
    asked: Arc<Mutex<u32>>,
}

impl Stub {
    async fn start(secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let stub = Stub { endpoint, secret: Arc::new(Mutex::new(secret.to_owned())), asked: Arc::default() };
        let (secret, asked) = (Arc::clone(&stub.secret), Arc::clone(&stub.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *asked.lock().unwrap() += 1;
                let body = serde_json::json!({ "SecretString": *secret.lock().unwrap() }).to_string();
                answer(stream, &body).await;
            }
        });
        stub
    }

    fn sdk(&self) -> SdkConfig {
        Role::new("akid", "key", None).sdk("eu-west-1").into_builder().endpoint_url(&self.endpoint).build()
    }
}

/// Reads one request, which ends with the ARN, and answers it.
async fn answer(mut stream: TcpStream, body: &str) {
    let mut request = Vec::new();
    while !String::from_utf8_lossy(&request).contains(&format!("{{\"SecretId\":\"{ARN}\"}}")) {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0, "{}", String::from_utf8_lossy(&request));
    }
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.unwrap();
}

fn secret(role: &str, password: &str) -> String {
    serde_json::json!({ "username": role, "password": password }).to_string()
}

#[tokio::test]
async fn the_secret_that_rds_manages_is_asked_for_again() {
    let server = Server::get().await;
    let role = server.role("before").await;
    let stub = Stub::start(&secret(&role, "before")).await;
    let config = server.variables("").with("DB_PASSWORD_SECRET_ARN", ARN).config();
    let database = Database::connect_as(&config, stub.sdk(), Arc::new(SystemClock)).await.unwrap();
    let (user, _first) = user_of_a_new_connection(&database).await;
    assert_eq!(user, role);
    let (_, _second) = user_of_a_new_connection(&database).await;
    assert_eq!(*stub.asked.lock().unwrap(), 1, "a password that is accepted is asked for once");

    server.set_password(&role, "after").await;
    *stub.secret.lock().unwrap() = secret(&role, "after");
    let (user, _third) = user_of_a_new_connection(&database).await;
    assert_eq!((user, *stub.asked.lock().unwrap()), (role, 2));
}

#[tokio::test]
async fn one_member_of_a_secret_and_a_secret_without_more() {
    let server = Server::get().await;
    let role = server.role("s3cret").await;
    for (text, member) in [("s3cret".to_owned(), ""), (secret("somebody else", "s3cret"), ":password")] {
        let stub = Stub::start(&text).await;
        let config = server.variables(&role).with("DB_PASSWORD_SECRET_ARN", &format!("{ARN}{member}")).config();
        let database = Database::connect_as(&config, stub.sdk(), Arc::new(SystemClock)).await.unwrap();
        assert_eq!(user_of_a_new_connection(&database).await.0, role);
    }
}

#[tokio::test]
async fn the_url_in_secrets_manager() {
    let server = Server::get().await;
    let role = server.role("s3cret").await;
    let stub = Stub::start(&format!("postgres://{role}:s3cret@127.0.0.1:{}/forebay", server.process.port())).await;
    let config = crate::Variables(Default::default()).with("DATABASE_URL_SECRET_ARN", ARN).config();
    let database = Database::connect_as(&config, stub.sdk(), Arc::new(SystemClock)).await.unwrap();
    assert_eq!(user_of_a_new_connection(&database).await.0, role);
}
