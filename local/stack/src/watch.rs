//! `cargo lambda watch`: it serves functions from their source, and builds them again when that changes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use services::free_port;
use tokio::process::{Child, Command};

use crate::options::Options;

/// Which functions are served from their source. The host runs the others from their binaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    All,
    Only(String),
}

impl Watched {
    pub fn contains(&self, function: &str) -> bool {
        match self {
            Watched::All => true,
            Watched::Only(only) => only == function,
        }
    }

    fn arguments(&self, address: SocketAddr, concurrency: usize) -> Vec<String> {
        let (ip, port, concurrency) = (address.ip().to_string(), address.port().to_string(), concurrency.to_string());
        let mut arguments: Vec<String> = ["lambda", "watch", "--invoke-address", &ip, "--invoke-port", &port]
            .into_iter()
            .chain(["--concurrency", &concurrency])
            .map(str::to_owned)
            .collect();
        if let Watched::Only(function) = self {
            arguments.extend(["--package".to_owned(), function.clone()]);
        }
        arguments
    }
}

/// A running `cargo lambda watch`.
#[derive(Debug)]
pub struct RunningWatch {
    process: Child,
    pub functions: Watched,
    /// Where it serves the Invoke API.
    pub address: SocketAddr,
}

impl RunningWatch {
    /// Starts it on the Lambda port if it serves every function, else on a free port, to which the host passes calls on.
    ///
    /// # Errors
    /// If cargo-lambda is not on the path, or does not listen within a minute.
    pub async fn start(
        functions: Watched,
        options: &Options,
        concurrency: usize,
        environment: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let mut address = options.ports.lambda.address();
        if functions != Watched::All {
            address.set_port(free_port().context("there is no free port for `cargo lambda watch`")?);
        }
        let mut process = Command::new("cargo")
            .args(functions.arguments(address, concurrency))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .kill_on_drop(true)
            .spawn()
            .context("cannot start `cargo lambda watch`; `make watch` installs it")?;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = process.try_wait()? {
                anyhow::bail!("`cargo lambda watch` ended while starting ({status})");
            }
            let is_late = tokio::time::Instant::now() >= deadline;
            anyhow::ensure!(!is_late, "`cargo lambda watch` does not listen after a minute");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(RunningWatch { process, functions, address })
    }

    /// Stops it, and the processes that it started.
    pub async fn stop(mut self) {
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            if nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).is_ok()
                && tokio::time::timeout(Duration::from_secs(5), self.process.wait()).await.is_ok()
            {
                return;
            }
        }
        let _ = self.process.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn one_function_is_one_package_of_cargo() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9000));
        let all = "lambda watch --invoke-address 127.0.0.1 --invoke-port 9000 --concurrency 3";
        assert_eq!(Watched::All.arguments(address, 3).join(" "), all);
        let only = Watched::Only("scorer".to_owned());
        assert_eq!(only.arguments(address, 3).join(" "), format!("{all} --package scorer"));
    }

    #[test]
    fn the_others_are_not_watched() {
        let only = Watched::Only("scorer".to_owned());
        assert_eq!(
            (only.contains("scorer"), only.contains("score"), Watched::All.contains("score")),
            (true, false, true)
        );
    }
}
