//! Prometheus beside the stack, with the alerts of `infra/observe`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::client::JsonClient;
use crate::options::{MetricsPorts, Port};

/// Relative to the project's folder.
const RULES: &str = "infra/observe/prometheus/rules.yaml";
const SCRAPE_INTERVAL: &str = "5s";
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// A running Prometheus. Dropping it kills it; its data end with it.
#[derive(Debug)]
pub struct RunningPrometheus {
    _process: Child,
    _folder: tempfile::TempDir,
    pub url: String,
}

impl RunningPrometheus {
    /// Starts the program in `folder` of programs, which asks the stack for its metrics. Returns when it answers.
    ///
    /// # Errors
    /// If a port for metrics is 0, the program is missing, its port is taken, or it does not start.
    pub async fn start(programs: &Path, port: Port, targets: &MetricsPorts) -> anyhow::Result<Self> {
        let all = [targets.stack, targets.ingest, targets.query].iter().all(|port| port.fixed().is_some());
        ensure!(all, "Prometheus needs METRICS_PORT, INGEST_METRICS_PORT and QUERY_METRICS_PORT: one of them is 0");
        let folder = tempfile::Builder::new().prefix("forebay-prometheus-").tempdir()?;
        let config = folder.path().join("prometheus.yaml");
        tokio::fs::write(&config, configuration(&std::env::current_dir()?.join(RULES), targets)).await?;
        let program = programs.join("prometheus");
        let log = std::fs::File::create(folder.path().join("prometheus.log"))?;
        let mut process = Command::new(&program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={}", port.address()))
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let url = format!("http://{}", port.address());
        let ready = format!("{url}/-/ready");
        let (client, deadline) = (JsonClient::default(), Instant::now() + PATIENCE);
        while !client.get(&ready, &[]).await.is_ok_and(|answer| answer.status.is_success()) {
            let ended = process.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                let said = tokio::fs::read_to_string(folder.path().join("prometheus.log")).await.unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                anyhow::bail!("Prometheus does not answer at {url} (PROMETHEUS_PORT); the end of its log: {last}");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(RunningPrometheus { _process: process, _folder: folder, url })
    }
}

/// JSON, which is YAML too.
fn configuration(rules: &PathBuf, targets: &MetricsPorts) -> String {
    let MetricsPorts { stack, ingest, query } = targets;
    let targets: Vec<String> = [stack, ingest, query].map(|port| port.address().to_string()).into();
    json!({
        "global": { "scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL },
        "rule_files": [rules],
        // The host's metrics have the service of the function that wrote them.
        "scrape_configs": [{ "job_name": "forebay", "honor_labels": true, "static_configs": [{ "targets": targets }] }],
    })
    .to_string()
}
