//! Commands for a running stack, on this machine or on AWS.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use archive::S3Objects;
use archive::reader::{ArchiveReader, Filter};
use clap::Args;
use pipeline::ports::KeyKind;
use postgres::{Database, PostgresConfig};
use serde_json::Value;
use settings::Settings;

use crate::demo::{self, Demo, Traffic};
use crate::functions::{self, call};
use crate::options::MetricsPorts;
use crate::output;
use crate::session::Session;
use crate::stack::Stack;

/// Sends sample traffic and then prints the addresses and commands to try.
///
/// # Errors
/// If the sample traffic could not be processed.
pub async fn introduce(stack: &Stack, sample: &Demo) -> anyhow::Result<()> {
    let traffic = sample.traffic()?;
    let report = sample.run(stack, traffic).await?;
    let key = stack.create_key("you", "your-first-key", KeyKind::Server, 100_000).await?;
    output::line(format_args!("\nsample traffic:\n{report}"))?;
    output::line(format_args!("ingest      {}", stack.ingest_url()))?;
    output::line(format_args!(
        "  try       curl -s {} -H 'x-api-key: {key}' -H 'content-type: application/json' \\",
        stack.ingest_url()
    ))?;
    output::line(format_args!(
        "              -d '{{\"type\":\"click\",\"user_id\":\"u1\",\"campaign_id\":\"c1\",\"geo_country\":\"DE\",\"device_type\":\"mobile\"}}'"
    ))?;
    output::line(format_args!("query       {}/<id>", stack.query_url()))?;
    let operator = stack.endpoints().create_operator_key(demo::TENANT, "your-operator-key").await?;
    output::line(format_args!("console     {}", stack.console_url()))?;
    output::line(format_args!("  sign in   with {operator}"))?;
    output::line("functions   make invoke FUNCTION=scorer EVENT=private-address")?;
    output::line(format_args!("Kafka       {}", stack.brokers()))?;
    output::line(format_args!(
        "PostgreSQL  psql '{}' -c 'SELECT outcome, count(*) FROM record_outcomes GROUP BY 1'",
        stack.database_url()
    ))?;
    output::line("archive     make archive")?;
    output::line("proof       make reconcile")?;
    output::line(format_args!("logs        {}", stack.options.logs.display()))?;
    let MetricsPorts { stack: own, ingest, query } = stack.options.ports.metrics;
    for (of, port) in [("functions and mappings", own), ("ingest", ingest), ("query", query)] {
        if port.fixed().is_some() {
            output::line(format_args!("metrics     http://{}/metrics ({of})", port.address()))?;
        }
    }
    Ok(())
}

/// Prints to standard error which lines of an input are not events.
pub fn report_bad_lines(traffic: &Traffic) {
    for (problem, bad) in &traffic.bad_lines {
        let numbers: Vec<String> = bad.first.iter().map(ToString::to_string).collect();
        let more = if bad.count > bad.first.len() { ", …" } else { "" };
        output::complain(format_args!("skipped {} lines: {problem} (lines {}{more})", bad.count, numbers.join(", ")));
    }
}

/// Prepares a running deployment; see [`functions::prepare`]. Running it again changes nothing.
///
/// # Errors
/// As there.
pub async fn prepare(session: &Session) -> anyhow::Result<ExitCode> {
    print_answer(&functions::prepare(session).await?)
}

/// Invokes a function with one of the samples under `events/`.
///
/// # Errors
/// If the sample does not exist; the error lists the existing ones.
pub async fn invoke(session: &Session, function: &str, event: &str) -> anyhow::Result<ExitCode> {
    let folder = Path::new("events").join(function);
    let path = folder.join(format!("{event}.json"));
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("no sample {}; the existing ones are: {}", path.display(), samples(&folder).join(", "))
    })?;
    match call(session, function, text).await {
        Ok(answer) => {
            output::line(serde_json::to_string_pretty(&answer)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            output::complain(format_args!("{error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn samples(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(PathBuf::from(entry.file_name()).file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

/// Invokes the replayer and prints each answer until the run is complete: an invocation stops before its timeout.
///
/// # Errors
/// If the replayer refuses.
pub async fn replay(session: &Session, request: &str) -> anyhow::Result<ExitCode> {
    loop {
        let answer = call(session, "replayer", request.to_owned()).await?;
        print_answer(&answer)?;
        // A dry run saves no progress: to continue it, send the answer's `next` as `start`.
        if answer["complete"] != false || answer["dry_run"] == true {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Prints one hash over all rows, and the count and hash of each table.
///
/// # Errors
/// If Postgres cannot be read.
pub async fn fingerprint(session: &Session) -> anyhow::Result<ExitCode> {
    session.require("DATABASE_URL")?;
    let mut settings = Settings::new(session);
    let config = PostgresConfig::from_settings(&mut settings);
    let database = Database::connect(&settings.build(config)?).await?;
    let fingerprint = postgres::fingerprint::fingerprint(&database).await?;
    for table in &fingerprint.tables {
        output::line(format_args!("{:<20} {:>10}  {}", table.table, table.rows, table.hash))?;
    }
    output::line(format_args!("{:<20} {:>10}  {}", "fingerprint", "", fingerprint.hash))?;
    Ok(ExitCode::SUCCESS)
}

fn print_answer(answer: &Value) -> anyhow::Result<ExitCode> {
    output::line(serde_json::to_string_pretty(answer)?)?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Args)]
pub struct ArchiveArguments {
    /// Print records, one JSON object a line, instead of listing objects.
    #[arg(long)]
    records: bool,
    /// `raw-events` or `processed-events`.
    #[arg(long, default_value = "raw-events")]
    topic: String,
}

/// # Errors
/// If the archive cannot be read.
pub async fn archive(session: &Session, arguments: &ArchiveArguments) -> anyhow::Result<ExitCode> {
    let bucket = session.require("ARCHIVE_BUCKET")?;
    let objects = S3Objects::connect(&session.aws("AWS_ENDPOINT_URL_S3").await, bucket);
    let reader = ArchiveReader::new(Arc::new(objects));
    let filter = Filter::topic(arguments.topic.as_str());
    if arguments.records {
        let mut records = reader.records(&filter).await?;
        let mut line = Vec::new();
        while let Some(record) = records.next().await? {
            line.clear();
            archive::line::encode(&record, &mut line)?;
            output::bytes(&line)?;
        }
    } else {
        for object in reader.objects(&filter).await? {
            output::line(format_args!("{:>10}  {}", object.size, object.key))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
