//! `forebay send`: one event, or all of a file.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ending::{Ending, Stop};
use crate::ingest_answer::{Verdict, problem_text, verdict};
use crate::ingest_client::{IngestClient, OutgoingEvent, RefusedLine, key_refused};
use crate::place::{ReachedPipeline, key_header};
use crate::progress_file::{BesideInput, SendProgress};
use crate::records::{InputFormat, InputReading, InputRecords, LONGEST_LINE};
use crate::table::{TextTable, cell};

/// Bytes of one request: a load balancer takes 1 MB.
const LARGEST_BODY: usize = 900_000;

#[derive(Debug, Args)]
pub struct SendArguments {
    /// One event as JSON; `-` reads it from standard input.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    event: Option<String>,
    /// A file with an event on each line.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What the lines are; without it, the end of the file's name says so: .ndjson or .jsonl, .csv, .log.
    #[arg(long, value_enum, requires = "file")]
    format: Option<InputFormat>,
    /// The type of events that do not name theirs.
    #[arg(long = "type", value_name = "TYPE", requires = "file")]
    event_type: Option<String>,
    /// Columns of a CSV that hold numbers, with commas between them. All others are texts.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', requires = "file")]
    numbers: Vec<String>,
    /// Events in a request.
    #[arg(long, value_name = "EVENTS", default_value = "500", value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// How long to try again while ingest takes nothing, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    patience_sec: u64,
    /// Begin at the start of the file although a part of it was sent. The ids stay the same.
    #[arg(long, requires = "file")]
    restart: bool,
}

/// # Errors
/// If the key is refused, ingest takes nothing, or the input is not what it should be.
pub async fn send(arguments: SendArguments, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    match (&arguments.file, &arguments.event) {
        (Some(path), _) => send_file(path, &arguments, at, answers).await,
        (None, event) => send_one(event.as_deref().unwrap_or("-"), at, answers).await,
    }
}

async fn send_one(event: &str, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let event = if event == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Stop::wrong_use(format!("standard input: {error}")))?;
        text
    } else {
        event.to_owned()
    };
    serde_json::from_str::<serde::de::IgnoredAny>(&event)
        .map_err(|error| Stop::wrong_use(format!("the event is not JSON: {error}")))?;
    let (url, key) = (format!("{}/events", at.ingest()?), at.key()?);
    let answer = at.client.post(&url, &key_header(&key), event).await?;
    if answer.status.is_success() {
        let receipt = answer.json();
        let shown = |receipt: &Value| {
            let of = |name: &str| cell(&receipt[name]);
            format!("{} {}: {}/{}/{}\n", of("status"), of("id"), of("topic"), of("partition"), of("offset"))
        };
        answers.show(&receipt, shown)?;
        return Ok(Ending::Done);
    }
    let problem = problem_text(answer.status, &answer.body);
    match verdict(answer.status, &answer.body, 1) {
        Verdict::KeyRefused(reason) => Err(key_refused(&reason)),
        Verdict::TooMuch { .. } => Err(Stop::with(Ending::Refused, format!("ingest refuses the event: {problem}"))),
        Verdict::Each(_) | Verdict::Later | Verdict::Strange(_) => anyhow::bail!("ingest does not take it: {problem}"),
    }
}

async fn send_file(
    path: &Path,
    arguments: &SendArguments,
    at: &ReachedPipeline,
    answers: &Answers,
) -> anyhow::Result<Ending> {
    let name = path.display();
    let format = arguments.format.or_else(|| InputFormat::of_name(&path.to_string_lossy()));
    let format =
        format.ok_or_else(|| Stop::wrong_use(format!("the name {name} does not say what it is: give --format")))?;
    let numbers: BTreeSet<String> = arguments.numbers.iter().cloned().collect();
    if format != InputFormat::Csv && !numbers.is_empty() {
        return Err(Stop::wrong_use("--numbers is for CSV: elsewhere the input says what is a number"));
    }
    let reading = InputReading { format, event_type: arguments.event_type.clone(), numbers };
    let mut file = File::open(path).map_err(|error| Stop::wrong_use(format!("cannot open {name}: {error}")))?;
    // Two runs would overwrite each other's progress.
    file.try_lock().map_err(|_| Stop::wrong_use(format!("another forebay is sending {name}")))?;
    let beside = BesideInput::of(path);
    let progress = beside.open(&mut file, reading.clone(), arguments.restart)?;
    let bar = progress_bar(file.metadata()?.len(), progress.offset);
    let mut transfer = Transfer {
        records: records(file, &progress, reading)?,
        refused: refused_file(&beside.refused, progress.refused_bytes)?,
        ingest: IngestClient {
            client: &at.client,
            url: format!("{}/events/batch", at.ingest()?),
            key: at.key()?,
            patience: Duration::from_secs(arguments.patience_sec),
            largest: arguments.batch.into(),
            bar: bar.clone(),
        },
        batch: arguments.batch.into(),
        beside,
        progress,
    };
    let begun_at = transfer.progress.lines;
    let ended = tokio::select! {
        ended = transfer.run() => ended,
        () = process::stop_signal() => Err(Stop::with(Ending::Interrupted, "interrupted")),
    };
    bar.finish_and_clear();
    let progress = &transfer.progress;
    if let Err(error) = ended {
        return Err(
            error.context(format!("{name} is sent up to line {}; the same command goes on there", progress.lines))
        );
    }
    if progress.accepted + progress.refused == 0 {
        return Err(Stop::wrong_use(format!("{name} has no events")));
    }
    let refused = transfer.beside.refused.display().to_string();
    let summary = json!({
        "file": path, "begun_at_line": begun_at, "lines": progress.lines, "accepted": progress.accepted,
        "refused": progress.refused, "sent_again": progress.sent_again,
        "refused_file": (progress.refused > 0).then_some(refused),
    });
    answers.show(&summary, summary_text)?;
    Ok(if progress.refused == 0 { Ending::Done } else { Ending::Refused })
}

/// The whole file's counts, also of runs before this one.
fn summary_text(summary: &Value) -> String {
    let mut table = TextTable::new(["lines", "accepted", "refused", "sent again"]);
    table.add(["lines", "accepted", "refused", "sent_again"].map(|name| cell(&summary[name])));
    let begun = match summary["begun_at_line"].as_u64() {
        Some(0) | None => String::new(),
        Some(lines) => format!("went on after line {lines}; the counts are those of the whole file\n"),
    };
    let refused = match summary["refused_file"].as_str() {
        Some(file) => format!("refused lines and their reasons: {file}\n"),
        None => String::new(),
    };
    format!("{begun}{table}{refused}")
}

fn progress_bar(length: u64, done: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length), target).with_position(done);
    // The template is constant; without it the bar has the default form.
    if let Ok(style) = ProgressStyle::with_template("{bytes}/{total_bytes} {bar:30} {bytes_per_sec} {eta} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn records(
    mut file: File,
    progress: &SendProgress,
    reading: InputReading,
) -> anyhow::Result<InputRecords<BufReader<File>>> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    BufReader::new((&file).take(LONGEST_LINE as u64)).read_until(b'\n', &mut head)?;
    if head.is_empty() {
        return Err(Stop::wrong_use("the file is empty"));
    }
    file.seek(SeekFrom::Start(progress.offset))?;
    let salt = progress.start.sha256.clone();
    InputRecords::new(
        BufReader::with_capacity(1 << 20, file),
        progress.position(),
        head.trim_ascii_end(),
        reading,
        salt,
    )
}

/// Without what a run wrote that ended before it could note its progress.
fn refused_file(path: &Path, length: u64) -> anyhow::Result<File> {
    let open = OpenOptions::new().create(true).append(true).open(path);
    let file = open.and_then(|file| file.set_len(length).map(|()| file));
    file.with_context(|| format!("cannot write {}", path.display()))
}

/// A file on its way.
struct Transfer<'a> {
    records: InputRecords<BufReader<File>>,
    refused: File,
    ingest: IngestClient<'a>,
    batch: usize,
    beside: BesideInput,
    progress: SendProgress,
}

impl Transfer<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let (events, mut refused) = self.next_batch()?;
            let at = self.records.position();
            if at.offset == self.progress.offset {
                break;
            }
            let result = self.ingest.deliver(events).await?;
            refused.extend(result.refused);
            refused.sort_by_key(|refused| refused.line);
            self.write_refused(&refused)?;
            self.progress.accepted += result.accepted;
            self.progress.refused += refused.len() as u64;
            self.progress.sent_again += result.sent_again;
            (self.progress.offset, self.progress.lines) = (at.offset, at.lines);
            self.beside.save(&self.progress)?;
            self.ingest.bar.set_position(at.offset);
        }
        if self.progress.refused == 0 {
            std::fs::remove_file(&self.beside.refused)?;
        }
        Ok(())
    }

    /// As many events as a request may have, and the lines before and between them that are none.
    fn next_batch(&mut self) -> anyhow::Result<(Vec<OutgoingEvent>, Vec<RefusedLine>)> {
        let (mut events, mut refused, mut bytes) = (Vec::new(), Vec::new(), 0);
        while events.len() < self.batch && refused.len() < self.batch && bytes < LARGEST_BODY - LONGEST_LINE {
            let Some(record) = self.records.read_next().context("cannot read the file")? else { break };
            match record.event {
                Ok(event) => {
                    bytes += event.len() + 1;
                    events.push(OutgoingEvent { line: record.line, text: record.text, event });
                }
                Err(reason) => refused.push(RefusedLine { line: record.line, reason, text: record.text }),
            }
        }
        Ok((events, refused))
    }

    fn write_refused(&mut self, refused: &[RefusedLine]) -> anyhow::Result<()> {
        let mut text = String::new();
        for RefusedLine { line, reason, text: content } in refused {
            text.push_str(&json!({"line": line, "reason": reason, "text": content}).to_string());
            text.push('\n');
        }
        self.refused.write_all(text.as_bytes()).context("cannot write the refused lines")?;
        self.progress.refused_bytes += text.len() as u64;
        Ok(())
    }
}
