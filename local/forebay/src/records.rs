//! The lines of a file as events: newline-delimited JSON, CSV, or a web server's log.

use std::collections::BTreeSet;
use std::io::{self, BufRead};

use clap::ValueEnum;
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

use crate::access_log::PageView;
use crate::ending::Stop;
use crate::lines::{LinePosition, LineReader};

/// What ingest takes as one event unless `MAX_EVENT_BYTES` says otherwise. A longer line is not even read.
pub const LONGEST_LINE: usize = 262_144;

/// What the lines of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum InputFormat {
    /// One JSON object a line.
    Ndjson,
    /// A row for each event under a row with the names of its members.
    Csv,
    /// A web server's log in the common or combined format: each line is a `page_view`.
    AccessLog,
}

impl InputFormat {
    /// By the end of a file's name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "ndjson" | "jsonl" => Some(InputFormat::Ndjson),
            "csv" => Some(InputFormat::Csv),
            "log" => Some(InputFormat::AccessLog),
            _ => None,
        }
    }
}

/// How lines become events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputReading {
    pub format: InputFormat,
    /// The type of events that do not name theirs.
    pub event_type: Option<String>,
    /// The columns of a CSV that hold numbers.
    pub numbers: BTreeSet<String>,
}

/// One event, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub struct InputRecord {
    /// Of its first line.
    pub line: u64,
    /// As it stands in the file; cut if it is too long.
    pub text: String,
    /// The event's JSON text.
    pub event: Result<String, String>,
}

/// Reads events from a file.
#[derive(Debug)]
pub struct InputRecords<R> {
    lines: LineReader<R>,
    reading: InputReading,
    /// Of a CSV.
    columns: Vec<String>,
    /// Goes into the ids, so that equal lines of two files are two events.
    salt: String,
}

impl<R: BufRead> InputRecords<R> {
    /// The input continues at `at`; `head` is the first line of the file.
    ///
    /// # Errors
    /// If the first line of a CSV does not have the columns that it needs.
    pub fn new(input: R, at: LinePosition, head: &[u8], reading: InputReading, salt: String) -> anyhow::Result<Self> {
        let columns = if reading.format == InputFormat::Csv { columns(head, &reading)? } else { Vec::new() };
        Ok(InputRecords { lines: LineReader::new(input, at, LONGEST_LINE), reading, columns, salt })
    }

    /// Where the next record begins.
    pub fn position(&self) -> LinePosition {
        self.lines.position()
    }

    /// # Errors
    /// If the input cannot be read.
    pub fn read_next(&mut self) -> io::Result<Option<InputRecord>> {
        loop {
            let Some(line) = self.lines.read_next()? else { return Ok(None) };
            let too_long = || format!("it is longer than {LONGEST_LINE} bytes");
            let Some(bytes) = line.bytes else {
                return Ok(Some(InputRecord { line: line.number, text: String::new(), event: Err(too_long()) }));
            };
            let mut bytes = if line.number == 1 { without_mark(&bytes).to_vec() } else { bytes };
            let is_head = self.reading.format == InputFormat::Csv && line.number == 1;
            if is_head || bytes.trim_ascii().is_empty() {
                continue;
            }
            let mut whole = true;
            if self.reading.format == InputFormat::Csv {
                whole = self.complete_row(&mut bytes)?;
            }
            let event = if whole { self.event(line.number, &bytes) } else { Err("a quote is not closed".to_owned()) };
            return Ok(Some(InputRecord {
                line: line.number,
                text: String::from_utf8_lossy(&bytes).into_owned(),
                event,
            }));
        }
    }

    /// Adds the further lines of a row that has line ends inside of quotes. `false` if it does not end within the limit.
    fn complete_row(&mut self, row: &mut Vec<u8>) -> io::Result<bool> {
        let quotes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'"').count();
        let mut open = quotes(row) % 2 == 1;
        while open {
            let Some(line) = self.lines.read_next()? else { return Ok(false) };
            let Some(bytes) = line.bytes.filter(|bytes| row.len() + bytes.len() < LONGEST_LINE) else {
                return Ok(false);
            };
            open = quotes(&bytes) % 2 == 0;
            row.push(b'\n');
            row.extend_from_slice(&bytes);
        }
        Ok(true)
    }

    fn event(&self, line: u64, bytes: &[u8]) -> Result<String, String> {
        let text = || std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned());
        let event = match self.reading.format {
            InputFormat::Ndjson => text()?.trim().to_owned(),
            InputFormat::Csv => row_event(text()?, &self.columns, &self.reading.numbers)?,
            InputFormat::AccessLog => {
                let view = PageView::parse(bytes).map_err(|error| error.to_string())?;
                serde_json::to_string(&view).map_err(|error| error.to_string())?
            }
        };
        let id = || self.id(line, bytes);
        completed(&event, id, self.reading.event_type.as_deref())
    }

    /// The same for the same line of the same file, so that a line that is sent twice is one event; and another one for an
    /// equal line elsewhere in it.
    fn id(&self, line: u64, bytes: &[u8]) -> String {
        let digest =
            Sha256::new().chain_update(&self.salt).chain_update(line.to_be_bytes()).chain_update(bytes).finalize();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Without the mark that some programs write at the start of a text.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Which members an event has; a repeated one of these is an error.
#[derive(Deserialize)]
struct Named {
    #[serde(default, deserialize_with = "present")]
    id: bool,
    #[serde(default, deserialize_with = "present")]
    event_id: bool,
    #[serde(default, rename = "type", deserialize_with = "present")]
    kind: bool,
    #[serde(default, deserialize_with = "present")]
    event_type: bool,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The event with an id and a type. Everything else stays as it is written, numbers too.
fn completed(event: &str, id: impl FnOnce() -> String, event_type: Option<&str>) -> Result<String, String> {
    let Some(members) = event.strip_prefix('{') else { return Err("it is not a JSON object".to_owned()) };
    let named: Named = serde_json::from_str(event).map_err(|error| format!("it is not an event: {error}"))?;
    let mut added = Map::new();
    if !named.id && !named.event_id {
        added.insert("id".to_owned(), id().into());
    }
    if let Some(event_type) = event_type.filter(|_| !named.kind && !named.event_type) {
        added.insert("type".to_owned(), event_type.into());
    }
    if added.is_empty() {
        return Ok(event.to_owned());
    }
    let added = Value::Object(added).to_string();
    let comma = if members.trim_start().starts_with('}') { "" } else { "," };
    Ok(format!("{}{comma}{members}", added.trim_end_matches('}')))
}

/// The names in the first row.
fn columns(head: &[u8], reading: &InputReading) -> anyhow::Result<Vec<String>> {
    let head = std::str::from_utf8(without_mark(head)).map_err(|_| Stop::wrong_use("line 1 is not UTF-8"))?;
    let names = cells(head).map_err(|error| Stop::wrong_use(format!("line 1 is not a row of a CSV: {error}")))?;
    let names: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err(Stop::wrong_use("line 1 has a column without a name: it must name the members of the events"));
    }
    if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
        return Err(Stop::wrong_use("line 1 names a column twice"));
    }
    let has_type = names.iter().any(|name| name == "type" || name == "event_type");
    if !has_type && reading.event_type.is_none() {
        return Err(Stop::wrong_use("line 1 has no column \"type\": add it, or say the type of all rows with --type"));
    }
    if let Some(unknown) = reading.numbers.iter().find(|number| !names.contains(number)) {
        let names = names.join(", ");
        return Err(Stop::wrong_use(format!("--numbers names the column {unknown:?}, but line 1 has only {names}")));
    }
    Ok(names)
}

fn cells(row: &str) -> Result<csv::StringRecord, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(row.as_bytes());
    let row = reader.records().next().ok_or("it is empty")?;
    row.map_err(|error| error.to_string())
}

/// A row as an event. A cell without text is left out.
fn row_event(row: &str, columns: &[String], numbers: &BTreeSet<String>) -> Result<String, String> {
    let cells = cells(row)?;
    if cells.len() != columns.len() {
        return Err(format!("it has {} columns, and line 1 has {}", cells.len(), columns.len()));
    }
    let mut event = Map::new();
    for (name, cell) in columns.iter().zip(&cells).filter(|(_, cell)| !cell.is_empty()) {
        let value = if numbers.contains(name) {
            let number: Number = cell.trim().parse().map_err(|_| format!("column {name}: {cell:?} is not a number"))?;
            Value::Number(number)
        } else {
            Value::from(cell)
        };
        event.insert(name.clone(), value);
    }
    Ok(Value::Object(event).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(format: InputFormat) -> InputReading {
        InputReading { format, event_type: None, numbers: BTreeSet::new() }
    }

    fn read(reading: InputReading, file: &[u8]) -> anyhow::Result<Vec<InputRecord>> {
        let head = file.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut records = InputRecords::new(file, LinePosition::default(), head, reading, "file".to_owned())?;
        let mut found = Vec::new();
        while let Some(record) = records.read_next()? {
            found.push(record);
        }
        Ok(found)
    }

    fn events(reading: InputReading, file: &[u8]) -> Vec<(u64, Result<Value, String>)> {
        let parsed = |text: String| serde_json::from_str(&text).unwrap();
        read(reading, file).unwrap().into_iter().map(|record| (record.line, record.event.map(parsed))).collect()
    }

    #[test]
    fn the_name_of_a_file_says_what_its_lines_are() {
        assert_eq!(InputFormat::of_name("a/b.NDJSON"), Some(InputFormat::Ndjson));
        assert_eq!(InputFormat::of_name("b.csv"), Some(InputFormat::Csv));
        assert_eq!(InputFormat::of_name("access.log"), Some(InputFormat::AccessLog));
        assert_eq!(InputFormat::of_name("access"), None);
    }

    #[test]
    fn an_event_with_an_id_is_sent_as_it_is_written() {
        let line = r#"{"type":"click","id":"a","amount":1.50,"big":123456789012345678901234567890}"#;
        let found = read(reading(InputFormat::Ndjson), format!("{line}\n").as_bytes()).unwrap();
        assert_eq!(found[0].event.as_deref(), Ok(line));
    }

    #[test]
    fn an_event_without_an_id_gets_one_that_is_the_same_each_time_and_another_for_each_line() {
        let file = b"{\"type\":\"click\"}\n\n{\"type\":\"click\"}\n{}\n";
        let found = events(reading(InputFormat::Ndjson), file);
        let ids: Vec<&Value> = found.iter().map(|(_, event)| &event.as_ref().unwrap()["id"]).collect();
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3, 4]);
        assert!(ids[0] != ids[1] && ids[0].as_str().unwrap().len() == 32, "{ids:?}");
        assert_eq!(events(reading(InputFormat::Ndjson), file), found);
        let typed = InputReading { event_type: Some("view".into()), ..reading(InputFormat::Ndjson) };
        let found = events(typed, b"{}\n{\"event_type\":\"click\",\"event_id\":\"e\"}");
        assert_eq!(found[0].1.as_ref().unwrap()["type"], "view");
        assert_eq!(found[1].1, Ok(json!({"event_type": "click", "event_id": "e"})));
    }

    #[test]
    fn a_line_that_is_no_event_says_why() {
        let long = format!("{{\"id\":\"{}\"}}", "x".repeat(LONGEST_LINE));
        let file = [b"[1]\n{\"a\":}\n\xff\n", long.as_bytes(), b"\n{\"id\":1,\"id\":2}\n"].concat();
        let found = events(reading(InputFormat::Ndjson), &file);
        let said: Vec<&str> = found.iter().map(|(_, event)| event.as_ref().unwrap_err().as_str()).collect();
        let expected = [
            "it is not a JSON object",
            "it is not an event: expected value",
            "it is not UTF-8",
            "it is longer than 262144 bytes",
            "it is not an event: duplicate field `id`",
        ];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.starts_with(expected), "{said:?} does not begin with {expected:?}");
        }
    }

    #[test]
    fn rows_become_events_by_the_names_in_the_first_line() {
        let numbers = BTreeSet::from(["amount".to_owned()]);
        let csv = InputReading { numbers, event_type: Some("transaction".into()), ..reading(InputFormat::Csv) };
        let file = "\u{feff}id,user_id,amount,note\r\na,007,19.9,\"two\nlines, \"\"quoted\"\"\"\nb,8,x,\n,9,1,\nc,9\nd,1,2,\"open\n";
        let found = events(csv, file.as_bytes());
        let note = "two\nlines, \"quoted\"";
        assert_eq!(
            found[0],
            (2, Ok(json!({"type": "transaction", "id": "a", "user_id": "007", "amount": 19.9, "note": note})))
        );
        assert_eq!(found[1], (4, Err("column amount: \"x\" is not a number".to_owned())));
        assert_eq!(found[2].1.as_ref().unwrap()["id"].as_str().unwrap().len(), 32, "an empty cell is no id");
        assert_eq!(found[3], (6, Err("it has 2 columns, and line 1 has 4".to_owned())));
        assert_eq!(found[4], (7, Err("a quote is not closed".to_owned())));
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn a_csv_without_the_columns_that_it_needs_is_refused_as_a_whole() {
        let refusal = |reading, file: &[u8]| read(reading, file).unwrap_err().to_string();
        let csv = || reading(InputFormat::Csv);
        assert!(refusal(csv(), b"id,amount\n").contains("no column \"type\""));
        assert!(refusal(csv(), b"type,,x\n").contains("without a name"));
        assert!(refusal(csv(), b"type,x,x\n").contains("twice"));
        assert!(refusal(csv(), b"\xff,x\n").contains("not UTF-8"));
        let numbers = InputReading { numbers: BTreeSet::from(["sum".to_owned()]), ..csv() };
        assert!(refusal(numbers, b"type,amount\n").contains("\"sum\", but line 1 has only type, amount"));
    }

    #[test]
    fn a_log_line_becomes_a_page_view() {
        let line = br#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 1 "-" "curl""#;
        let file = [line, &b"\nnonsense\n"[..], line].concat();
        let found = events(reading(InputFormat::AccessLog), &file);
        let view = |at: usize| found[at].1.as_ref().unwrap();
        assert_eq!((view(0)["type"].as_str(), view(0)["path"].as_str()), (Some("page_view"), Some("/a")));
        assert_ne!(view(0)["id"], view(2)["id"], "the same page was seen twice");
        assert_eq!(found[1].1, Err("not in the combined log format".to_owned()));
    }
}
