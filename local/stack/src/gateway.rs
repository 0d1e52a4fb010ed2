//! The Invoke API in front of functions that run in containers of their own, and their schedules: what the Lambda service and
//! EventBridge are on AWS.
//!
//! A Runtime Interface Emulator serves one function under a fixed path and dies when two calls overlap, so here calls have the
//! function's name, as on AWS, and each function gets one after another, whoever calls it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context as _;
use esm::FunctionUrl;
use host::{FunctionElsewhere, Host, HostConfig};

use crate::client::JsonClient;
use crate::schedule::{RunningSchedule, Schedule};

/// A running gateway. Dropping it stops it at once.
#[derive(Debug)]
pub struct Gateway {
    schedules: Vec<RunningSchedule>,
    host: Host,
}

impl Gateway {
    /// Listens, and starts the schedules.
    ///
    /// # Errors
    /// If the address is taken, a function has two URLs, or a schedule names a function without one.
    pub async fn start(listen: SocketAddr, urls: Vec<FunctionUrl>, schedules: Vec<Schedule>) -> anyhow::Result<Self> {
        let mut elsewhere = BTreeMap::new();
        for FunctionUrl { function, url } in urls {
            let distant = FunctionElsewhere { url, one_at_a_time: true };
            anyhow::ensure!(elsewhere.insert(function.clone(), distant).is_none(), "{function} has two URLs");
        }
        for Schedule { function, .. } in &schedules {
            anyhow::ensure!(elsewhere.contains_key(function), "{function} has a schedule and no URL");
        }
        let host = Host::start(HostConfig { listen, functions: Vec::new(), elsewhere });
        let host = host.await.context("the gateway did not start")?;
        let endpoint = format!("http://127.0.0.1:{}", host.address().port());
        let start = |schedule| RunningSchedule::start(schedule, JsonClient::default(), &endpoint);
        Ok(Gateway { schedules: schedules.into_iter().map(start).collect(), host })
    }

    /// The value for `AWS_ENDPOINT_URL_LAMBDA` on this machine.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.host.address().port())
    }

    /// Stops the schedules, then the API.
    pub async fn stop(self) {
        for schedule in self.schedules {
            schedule.stop().await;
        }
        self.host.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::functions::{invoke, invoke_url};

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// A server that answers every request with its path, one request a connection.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8192];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let body = json!({ "path": request.split(' ').nth(1) }).to_string();
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_function_is_called_by_its_name_and_on_its_schedule() {
        let server = echo().await;
        let url: FunctionUrl = format!("maintainer=http://{server}/functions/function").parse().unwrap();
        let schedule = Schedule { function: "maintainer".to_owned(), every: Duration::from_secs(3600) };
        let gateway = Gateway::start(ANY, vec![url], vec![schedule]).await.unwrap();
        let call = async |function: &str| {
            invoke(&JsonClient::default(), &invoke_url(&gateway.endpoint(), function), "{}".to_owned()).await
        };
        assert_eq!(call("maintainer").await.unwrap(), json!({"path": "/functions/function"}));
        assert!(call("redriver").await.unwrap_err().to_string().contains("Function not found"));
        gateway.stop().await;
    }

    #[tokio::test]
    async fn mistakes_are_named() {
        let url = || "rescorer=http://rescorer:8080/".parse::<FunctionUrl>().unwrap();
        let twice = Gateway::start(ANY, vec![url(), url()], vec![]).await.unwrap_err();
        assert_eq!(twice.to_string(), "rescorer has two URLs");
        let unknown = Gateway::start(ANY, vec![url()], vec!["maintainer=60".parse().unwrap()]).await.unwrap_err();
        assert_eq!(unknown.to_string(), "maintainer has a schedule and no URL");
    }
}
