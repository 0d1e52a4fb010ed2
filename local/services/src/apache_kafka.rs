//! A real Apache Kafka broker, without Docker: one KRaft node run from its Maven artifacts by `local/kafka/run.sh`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use krafka::Kafka;
use tokio::time::Instant;

use crate::port::free_port;
use crate::supervisor::{Supervised, last_words};

/// Longest wait for the broker to answer. It takes 4 s when everything is there, and a minute when Java and the jars
/// have to be fetched.
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
    /// Starts a broker on `port` (else a free one) of the loopback interface, with its data in `dir`, which is kept
    /// (else in a temporary folder, which is not). Fetches Java and the jars first, if they are missing. Returns when
    /// the broker answers.
    ///
    /// # Errors
    /// If something cannot be fetched (saying what to install), the port is taken, or the broker does not start (with
    /// its own words).
    pub async fn start(port: Option<u16>, dir: Option<&Path>) -> anyhow::Result<Self> {
        Self::start_announced(port, None, dir).await
    }

    /// Like [`ApacheKafka::start`]; tells its clients to come to the port `announced`, where a proxy stands.
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
                // Asked here, because whoever has it might pass for the broker.
                let address = (Ipv4Addr::LOCALHOST, port);
                drop(TcpListener::bind(address).with_context(|| format!("port {port} for Apache Kafka is taken"))?);
                port
            }
            None => free_port()?,
        };
        let (folder, scratch) = match dir {
            Some(dir) => (dir.to_owned(), None),
            // From here on the supervisor removes it.
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
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
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
        .context("starting Apache Kafka")?;

        let brokers = format!("127.0.0.1:{port}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.ended()? {
                bail!("Apache Kafka stopped at once ({status}): {}", last_words(&log_path));
            }
            let Err(error) = Kafka::builder(&brokers).connect().await else { break };
            ensure!(
                Instant::now() < deadline,
                "Apache Kafka does not answer after {} s ({error}): {}",
                PATIENCE.as_secs(),
                last_words(&log_path)
            );
            tokio::time::sleep(PAUSE).await;
        }
        Ok(process)
    }

    /// Ends the broker by SIGKILL: a crash, with whatever it had not written. [`ApacheKafka::restart`] goes on from
    /// its files.
    ///
    /// # Errors
    /// If its data would go with it, or it cannot be signalled.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        ensure!(!self.thrown_away, "a broker in a temporary folder would lose its data");
        Ok(self.process.kill()?)
    }

    /// Starts the killed broker again where it was.
    ///
    /// # Errors
    /// As [`ApacheKafka::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = Self::launch(self.port, self.announced, &self.folder, None).await?;
        Ok(())
    }

    /// The bootstrap address, as `KAFKA_BROKERS` takes it.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[ignore = "starts a Java process, and fetches it first on a new machine; for `make test KAFKA=apache`"]
    async fn starts_answers_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let kafka = ApacheKafka::start(None, Some(dir.path())).await.unwrap();
        let brokers = kafka.brokers();
        let taken = ApacheKafka::start(Some(kafka.port), None).await.unwrap_err();
        assert!(format!("{taken:#}").contains(&format!("port {}", kafka.port)), "{taken:#}");
        drop(kafka);
        assert!(Kafka::builder(&brokers).connect().await.is_err());
        ApacheKafka::start(None, Some(dir.path())).await.expect("it starts again with what it has");
    }
}
