//! A health check by the program itself, for images without a shell: `program health` connects to the port on which the
//! same program serves, and exits with status 0 if that works.
//!
//! It does no more than connect. Under the Runtime Interface Emulator a request would be a call, and a second call at the
//! same time kills it.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use settings::{ProcessEnvironment, Settings, SettingsError, Variables};

/// The first argument that asks for it.
const ARGUMENT: &str = "health";
/// Where the Runtime Interface Emulator listens. Under it a function has no port of its own.
const EMULATOR_PORT: u16 = 8080;
/// A server on this machine takes a connection within milliseconds, even when it is busy.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after the operating system has no file descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Ends the process if its first argument is `health`: with status 0 if the server of this container takes a connection,
/// else with status 1 and the reason on standard error. Returns in every other case.
pub fn exit_if_asked() {
    if std::env::args_os().nth(1).as_deref() != Some(OsStr::new(ARGUMENT)) {
        return;
    }
    match address(&ProcessEnvironment).map_err(|error| error.to_string()).and_then(connect) {
        Ok(()) => std::process::exit(0),
        Err(reason) => {
            eprintln!("unhealthy: {reason}");
            std::process::exit(1)
        }
    }
}

fn connect(address: SocketAddr) -> Result<(), String> {
    let connected = TcpStream::connect_timeout(&address, TIMEOUT);
    connected.map(drop).map_err(|error| format!("no connection to {address}: {error}"))
}

/// The port on which a program that serves nobody can be seen to be healthy.
#[derive(Clone, Copy, Debug)]
pub struct HealthPort(Option<SocketAddr>);

impl HealthPort {
    /// `PORT` of `HTTP_BIND`, as a server has them. Without `PORT` the program cannot be checked.
    pub fn from_settings(settings: &mut Settings<'_>) -> Self {
        let port = settings.optional::<u16>("PORT");
        let bind = settings.or("HTTP_BIND", IpAddr::V4(Ipv4Addr::LOCALHOST));
        HealthPort(port.map(|port| SocketAddr::new(bind, port)))
    }

    /// Takes connections, which it closes at once, until the returned value is dropped.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn open(self) -> std::io::Result<OpenHealthPort> {
        let Some(address) = self.0 else { return Ok(OpenHealthPort { task: None }) };
        let listener = tokio::net::TcpListener::bind(address).await?;
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = listener.accept().await {
                    tracing::warn!(%error, "cannot accept a connection of a health check");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        });
        Ok(OpenHealthPort { task: Some(task.abort_handle()) })
    }
}

/// Dropping it closes the port.
#[derive(Debug)]
pub struct OpenHealthPort {
    task: Option<tokio::task::AbortHandle>,
}

impl Drop for OpenHealthPort {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Where the other process of this container listens: on `PORT` of `HTTP_BIND`, or of the loopback interface if it listens
/// on all of them; without `PORT`, where the Runtime Interface Emulator does.
fn address(variables: &dyn Variables) -> Result<SocketAddr, SettingsError> {
    let mut settings = Settings::new(variables);
    let port = settings.or("PORT", EMULATOR_PORT);
    let bind = match settings.or("HTTP_BIND", IpAddr::V4(Ipv4Addr::LOCALHOST)) {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        bind => bind,
    };
    settings.build(Some(SocketAddr::new(bind, port)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::TcpListener;

    use super::*;

    fn address_of(variables: &[(&'static str, &'static str)]) -> String {
        address(&variables.iter().copied().collect::<BTreeMap<_, _>>()).unwrap().to_string()
    }

    #[test]
    fn the_address_is_that_of_the_server_or_of_the_emulator() {
        assert_eq!(address_of(&[]), "127.0.0.1:8080");
        assert_eq!(address_of(&[("PORT", "8081")]), "127.0.0.1:8081");
        assert_eq!(address_of(&[("PORT", "8081"), ("HTTP_BIND", "0.0.0.0")]), "127.0.0.1:8081");
        assert_eq!(address_of(&[("PORT", "8081"), ("HTTP_BIND", "::")]), "[::1]:8081");
        assert_eq!(address_of(&[("PORT", "8081"), ("HTTP_BIND", "10.1.2.3")]), "10.1.2.3:8081");
        assert!(address(&BTreeMap::from([("PORT", "a")])).is_err());
    }

    #[tokio::test]
    async fn a_program_without_a_server_is_healthy_while_its_port_is_open() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port().to_string();
        let variables = BTreeMap::from([("PORT", port.as_str())]);
        let mut settings = Settings::new(&variables);
        let open = HealthPort::from_settings(&mut settings).open().await.unwrap();
        let check = || {
            tokio::task::spawn_blocking({
                let address = address(&variables).unwrap();
                move || connect(address)
            })
        };
        assert_eq!((check().await.unwrap(), check().await.unwrap()), (Ok(()), Ok(())), "one after another");
        drop(open);
        tokio::task::yield_now().await;
        assert!(check().await.unwrap().is_err());
    }

    #[test]
    fn a_server_is_healthy_while_it_listens() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(connect(address), Ok(()));
        drop(listener);
        assert!(connect(address).unwrap_err().starts_with("no connection to 127.0.0.1:"));
    }
}
