//! A real Apache Kafka broker without Docker: one KRaft node, which `local/kafka/run.sh` runs from its Maven artifacts.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use krafka::Kafka;
use tokio::time::Instant;

use crate::port::free_port;
use crate::supervisor::{Supervised, log_tail};

/// Maximum wait for the broker to answer. It takes 4 s when everything is installed, and a minute when Java and the
/// jars have to be downloaded.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(100);

/// A running broker. Dropping it stops it as SIGTERM does.
#[derive(Debug)]
pub struct ApacheKafka {
    process: Supervised,
    port: u16,
    announced: Option<u16>,
    folder: PathBuf,
    thrown_away: bool,
}

impl ApacheKafka {
    /// Starts a broker on `port` of the loopback interface, or on a free port. Its data is in `dir`, which is kept, or
    /// in a temporary folder, which is removed. Downloads Java and the jars first if they are missing. Returns when the
    /// broker answers.
    ///
    /// # Errors
    /// If a download fails (the error says what to install), the port is taken, or the broker does not start (the error
    /// contains the end of its log).
    pub async fn start(port: Option<u16>, dir: Option<&Path>) -> anyhow::Result<Self> {
        Self::start_announced(port, None, dir).await
    }

    /// Like [`ApacheKafka::start`], but the broker advertises the port `announced`, where a proxy listens.
    ///
    /// # Errors
    /// As [`ApacheKafka::start`].
    pub async fn start_announced(
        port: Option<u16>,
        announced: Option<u16>,
        dir: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let port = match port {
            Some(port) => {
                // Checked here, because another process on the port could be mistaken for the broker.
                let address = (Ipv4Addr::LOCALHOST, port);
                drop(TcpListener::bind(address).with_context(|| format!("port {port} for Apache Kafka is taken"))?);
                port
            }
            None => free_port()?,
        };
        let (folder, scratch) = match dir {
            Some(dir) => (dir.to_owned(), None),
            // The supervisor removes it.
            None => {
                let scratch: PathBuf = tempfile::Builder::new().prefix("forebay-kafka-").tempdir()?.keep();
                (scratch.clone(), Some(scratch))
            }
        };
        let process = Self::launch(port, announced, &folder, scratch.as_deref()).await?;
        Ok(ApacheKafka { process, port, announced, folder, thrown_away: scratch.is_some() })
    }

    /// Starts the process and waits until it answers.
    async fn launch(
        port: u16,
        announced: Option<u16>,
        folder: &Path,
        scratch: Option<&Path>,
    ) -> anyhow::Result<Supervised> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kafka/run.sh");
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let log_path = folder.join("kafka.log");
        let (log, errors) = std::fs::File::create(&log_path).and_then(|log| Ok((log.try_clone()?, log)))?;
        let arguments = [port.to_string().into(), folder.as_os_str().to_owned()];
        let controller_port = free_port()?.to_string();
        let mut process = Supervised::start(&script, arguments, "TERM", scratch, |command| {
            command.env("CONTROLLER_PORT", controller_port).stdout(log).stderr(errors);
            if let Some(announced) = announced {
                command.env("ADVERTISED_PORT", announced.to_string());
            }
        })
        .context("cannot start Apache Kafka")?;

        let brokers = format!("127.0.0.1:{port}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.ended()? {
                bail!("Apache Kafka ended while starting ({status}); the end of its log: {}", log_tail(&log_path));
            }
            let Err(error) = Kafka::builder(&brokers).connect().await else { break };
            ensure!(
                Instant::now() < deadline,
                "Apache Kafka does not answer after {} s ({error}); the end of its log: {}",
                PATIENCE.as_secs(),
                log_tail(&log_path)
            );
            tokio::time::sleep(PAUSE).await;
        }
        Ok(process)
    }

    /// Kills the broker with SIGKILL: a crash that loses what it had not written. [`ApacheKafka::restart`] continues
    /// with its files.
    ///
    /// # Errors
    /// If its data would be removed too, or it cannot be signalled.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        ensure!(!self.thrown_away, "cannot kill this broker: its temporary folder would be removed");
        Ok(self.process.kill()?)
    }

    /// Starts the killed broker again on the same port with the same data.
    ///
    /// # Errors
    /// As [`ApacheKafka::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = Self::launch(self.port, self.announced, &self.folder, None).await?;
        Ok(())
    }

    /// The bootstrap address, in the format of `KAFKA_BROKERS`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[ignore = "starts a Java process, and downloads Java first on a new machine; for `make test KAFKA=apache`"]
    async fn starts_answers_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let kafka = ApacheKafka::start(None, Some(dir.path())).await.unwrap();
        let brokers = kafka.brokers();
        let taken = ApacheKafka::start(Some(kafka.port), None).await.unwrap_err();
        assert!(format!("{taken:#}").contains(&format!("port {}", kafka.port)), "{taken:#}");
        drop(kafka);
        assert!(Kafka::builder(&brokers).connect().await.is_err());
        ApacheKafka::start(None, Some(dir.path())).await.expect("it starts again with its data");
    }
}
