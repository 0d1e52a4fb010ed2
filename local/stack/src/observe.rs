//! Programs beside the stack that watch it: Prometheus with the alerts of `infra/observe`, and Jaeger for traces.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::client::JsonClient;
use crate::options::{MetricsPorts, Options, Port};

/// Relative to the project's folder.
const RULES: &str = "infra/observe/prometheus/rules.yaml";
const JAEGER_CONFIG: &str = "local/setup/jaeger.yaml";
const SCRAPE_INTERVAL: &str = "5s";
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// A running program. Dropping it kills it; its data end with it.
#[derive(Debug)]
pub struct RunningObserver {
    _process: Child,
    _folder: TempDir,
    pub url: String,
}

impl RunningObserver {
    /// Starts the Prometheus in `folder` of programs, which asks the stack for its metrics. Returns when it answers.
    ///
    /// # Errors
    /// If a port for metrics is 0, the program is missing, its port is taken, or it does not start.
    pub async fn prometheus(programs: &Path, port: Port, targets: &MetricsPorts) -> anyhow::Result<Self> {
        let all = [targets.stack, targets.ingest, targets.query].iter().all(|port| port.fixed().is_some());
        ensure!(all, "Prometheus needs METRICS_PORT, INGEST_METRICS_PORT and QUERY_METRICS_PORT: one of them is 0");
        let folder = folder()?;
        let config = folder.path().join("prometheus.yaml");
        tokio::fs::write(&config, configuration(&std::env::current_dir()?.join(RULES), targets)).await?;
        let mut command = Command::new(programs.join("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={}", port.address()));
        RunningObserver::start("Prometheus", command, folder, port, "/-/ready").await
    }

    /// Starts the Jaeger `program`, and lets the functions of `options` send it every trace. Returns when it answers.
    ///
    /// # Errors
    /// If the program is missing, one of its ports is taken, or it does not start.
    pub async fn jaeger(program: &Path, options: Options) -> anyhow::Result<(Self, Options)> {
        let (port, collector) = (options.ports.jaeger, options.ports.collector);
        let mut command = Command::new(program);
        command
            .args(["--config", JAEGER_CONFIG])
            .env("JAEGER_PORT", port.number.to_string())
            .env("JAEGER_OTLP_PORT", collector.number.to_string());
        let jaeger = RunningObserver::start("Jaeger", command, folder()?, port, "/api/services").await?;
        let options = options
            .with_default("TRACES", "otlp")
            .with_default("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("http://{}/v1/traces", collector.address()))
            .with_default("OTEL_TRACES_SAMPLER_ARG", "1");
        Ok((jaeger, options))
    }

    /// Returns when the program answers at `ready`.
    async fn start(name: &str, mut command: Command, folder: TempDir, port: Port, ready: &str) -> anyhow::Result<Self> {
        let log_file = folder.path().join("log");
        let log = std::fs::File::create(&log_file)?;
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let mut process = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let url = format!("http://{}", port.address());
        let ready = format!("{url}{ready}");
        let (client, deadline) = (JsonClient::default(), Instant::now() + PATIENCE);
        while !client.get(&ready, &[]).await.is_ok_and(|answer| answer.status.is_success()) {
            let ended = process.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                let said = tokio::fs::read_to_string(&log_file).await.unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                let setting = port.setting();
                anyhow::bail!("{name} does not answer at {url} ({setting}); the end of its log: {last}");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(RunningObserver { _process: process, _folder: folder, url })
    }
}

fn folder() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("forebay-observe-").tempdir()
}

/// JSON, which is YAML too.
fn configuration(rules: &Path, targets: &MetricsPorts) -> String {
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
