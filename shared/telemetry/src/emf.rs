//! The way out on Lambda: lines in CloudWatch's Embedded Metric Format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
//!
//! A line has the values of one combination of labels. The labels that are dimensions ([`Definition::dimensions`]) make the
//! metric; the others are members of the line only, so CloudWatch sums over them and Logs Insights can tell them apart.
//!
//! The format takes at most 100 values of a metric in a line; more go into further lines, so that every observation counts.
//!
//! Zeros are left out, but for a state that somebody has set to 0: to CloudWatch a counter is its increments, and it bills a series
//! for each hour in which it is written. A reader that keeps series, as the local host does, asks for those of new series
//! ([`Zeros`]).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use metrics::{CounterFn, GaugeFn, Key, KeyName, Metadata, Recorder, SharedString};
use metrics_util::registry::{Registry, Storage};
use metrics_util::storage::AtomicBucket;
use serde_json::{Map, Value, json};

use crate::definition::Definition;
use crate::{SERVICE, list};

/// Most values of one metric in a line.
const MAX_VALUES: usize = 100;
/// Most metrics in a line.
const MAX_METRICS: usize = 100;
/// Most dimensions of a metric.
const MAX_DIMENSIONS: usize = 30;

/// Whether a series is written once although it is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    OfNewSeries,
    Never,
}

/// Keeps values until they are written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EmfRecorder(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    service: &'static str,
    namespace: String,
    zeros: Zeros,
    registry: Registry<Key, Cells>,
}

/// What the registry keeps of a series.
#[derive(Debug)]
struct Cells;

impl Storage<Key> for Cells {
    type Counter = Arc<Increments>;
    type Gauge = Arc<State>;
    type Histogram = Arc<AtomicBucket<f64>>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::new(Increments { since_flush: AtomicU64::new(0), is_new: AtomicBool::new(true) })
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::new(State { bits: AtomicU64::new(0), is_set: AtomicBool::new(false), is_new: AtomicBool::new(true) })
    }

    fn histogram(&self, _: &Key) -> Self::Histogram {
        Arc::new(AtomicBucket::new())
    }
}

#[derive(Debug)]
struct Increments {
    since_flush: AtomicU64,
    is_new: AtomicBool,
}

impl Increments {
    fn take(&self, zeros: Zeros) -> Option<u64> {
        let is_new = self.is_new.swap(false, Ordering::Relaxed);
        let increments = self.since_flush.swap(0, Ordering::Relaxed);
        (increments > 0 || (is_new && zeros == Zeros::OfNewSeries)).then_some(increments)
    }
}

impl CounterFn for Increments {
    fn increment(&self, by: u64) {
        self.since_flush.fetch_add(by, Ordering::Relaxed);
    }

    /// For totals that somebody else counts. [`crate::Counter`] has no way to set one.
    fn absolute(&self, _: u64) {}
}

#[derive(Debug)]
struct State {
    /// Of an `f64`.
    bits: AtomicU64,
    /// Set since the last flush.
    is_set: AtomicBool,
    is_new: AtomicBool,
}

impl State {
    /// A state that is not 0 is written at every flush, because an alarm must see that it lasts; and 0 each time that it is set.
    fn take(&self, zeros: Zeros) -> Option<f64> {
        let is_new = self.is_new.swap(false, Ordering::Relaxed);
        let is_set = self.is_set.swap(false, Ordering::Relaxed);
        let value = f64::from_bits(self.bits.load(Ordering::Relaxed));
        (value != 0.0 || is_set || (is_new && zeros == Zeros::OfNewSeries)).then_some(value)
    }

    fn update(&self, change: impl Fn(f64) -> f64) {
        let update = |bits| Some(change(f64::from_bits(bits)).to_bits());
        // Never fails, because the closure always has a value.
        let _ = self.bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        self.is_set.store(true, Ordering::Relaxed);
    }
}

impl GaugeFn for State {
    fn increment(&self, by: f64) {
        self.update(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.update(|value| value - by);
    }

    fn set(&self, value: f64) {
        self.update(|_| value);
    }
}

impl Recorder for EmfRecorder {
    // The list has units and meanings.
    fn describe_counter(&self, _: KeyName, _: Option<metrics::Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<metrics::Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<metrics::Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
        self.0.registry.get_or_create_counter(key, |cell| metrics::Counter::from_arc(Arc::clone(cell)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        self.0.registry.get_or_create_gauge(key, |cell| metrics::Gauge::from_arc(Arc::clone(cell)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        self.0.registry.get_or_create_histogram(key, |cell| metrics::Histogram::from_arc(Arc::clone(cell)))
    }
}

/// What has to be written of a series. A histogram's observations may fill several lines.
enum Taken {
    Count(u64),
    State(f64),
    Observations(Vec<f64>),
}

impl Taken {
    /// What fits into a line. Returns whether something is left for the next.
    fn part(&mut self) -> (Option<Value>, bool) {
        match self {
            Taken::Count(count) => (Some(json!(count)), false),
            // JSON has no infinities; the metric is left out.
            Taken::State(value) => (value.is_finite().then(|| json!(value)), false),
            Taken::Observations(values) => {
                let rest = values.split_off(values.len().min(MAX_VALUES));
                let part = std::mem::replace(values, rest);
                ((!part.is_empty()).then(|| json!(part)), !values.is_empty())
            }
        }
    }
}

/// The series that share a line: they have the same labels, and the same of them are dimensions.
type LineKey = (Vec<(String, String)>, &'static [&'static str]);

impl EmfRecorder {
    /// A recorder whose lines have the dimension `service`, and are of `namespace`.
    pub fn new(service: &'static str, namespace: &str, zeros: Zeros) -> Self {
        let (namespace, registry) = (namespace.to_owned(), Registry::new(Cells));
        EmfRecorder(Arc::new(Kept { service, namespace, zeros, registry }))
    }

    /// Takes what has changed since the last call, as lines without line ends.
    pub fn lines(&self, now_ms: i64) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, mut series) in self.taken() {
            while !series.is_empty() {
                let mut of_line = Vec::with_capacity(series.len());
                series.retain_mut(|(definition, taken)| {
                    let (part, has_more) = taken.part();
                    of_line.extend(part.map(|part| (*definition, part)));
                    has_more
                });
                while !of_line.is_empty() {
                    let rest = of_line.split_off(of_line.len().min(MAX_METRICS));
                    lines.push(self.line(&key, std::mem::replace(&mut of_line, rest), now_ms));
                }
            }
        }
        lines
    }

    fn taken(&self) -> BTreeMap<LineKey, Vec<(&'static Definition, Taken)>> {
        let mut taken: BTreeMap<LineKey, Vec<(&'static Definition, Taken)>> = BTreeMap::new();
        let mut add = |key: &Key, value: Taken| {
            let Some(definition) = list::ALL.iter().find(|definition| definition.name == key.name()) else { return };
            let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
            taken.entry((labels, definition.dimensions)).or_default().push((definition, value));
        };
        let registry = &self.0.registry;
        registry.visit_counters(|key, cell| {
            if let Some(count) = cell.take(self.0.zeros) {
                add(key, Taken::Count(count));
            }
        });
        registry.visit_gauges(|key, cell| {
            if let Some(value) = cell.take(self.0.zeros) {
                add(key, Taken::State(value));
            }
        });
        registry.visit_histograms(|key, cell| {
            let mut values = Vec::new();
            cell.clear_with(|block| values.extend(block.iter().filter(|value| value.is_finite())));
            if !values.is_empty() {
                add(key, Taken::Observations(values));
            }
        });
        taken
    }

    fn line(&self, (labels, dimensions): &LineKey, values: Vec<(&Definition, Value)>, now_ms: i64) -> String {
        let metrics: Vec<Value> = values
            .iter()
            .map(|(definition, _)| json!({ "Name": definition.name, "Unit": definition.unit.cloudwatch() }))
            .collect();
        let dimensions: Vec<&str> = std::iter::once(SERVICE).chain(dimensions.iter().copied()).collect();
        let directive = json!({ "Namespace": self.0.namespace, "Dimensions": [dimensions], "Metrics": metrics });
        let mut line = Map::new();
        line.insert("_aws".to_owned(), json!({ "Timestamp": now_ms, "CloudWatchMetrics": [directive] }));
        line.insert(SERVICE.to_owned(), self.0.service.into());
        line.extend(labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
        line.extend(values.into_iter().map(|(definition, value)| (definition.name.to_owned(), value)));
        Value::Object(line).to_string()
    }
}

/// Writes each line with its end in one call, so that it stays whole among the lines of other threads.
pub(crate) fn write(mut output: impl Write, lines: &[String]) {
    for line in lines {
        // There is nobody left to tell if standard output is closed.
        let _ = output.write_all(format!("{line}\n").as_bytes());
    }
}

/// A line as CloudWatch reads it.
#[derive(Debug, PartialEq)]
pub struct Reading {
    pub namespace: String,
    pub dimensions: Vec<String>,
    /// Every member that is a text: dimensions and other labels.
    pub labels: BTreeMap<String, String>,
    /// Name, unit and values of each metric.
    pub values: Vec<(String, String, Vec<f64>)>,
}

/// What a line breaks of the format; CloudWatch would drop it, or a part of it, without a word.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a line that CloudWatch would take: {0}")]
pub struct EmfError(String);

/// What a log line says in the Embedded Metric Format; `None` for a line that does not claim to be one.
///
/// # Errors
/// [`EmfError`] if it claims to be one and breaks the format's rules.
pub fn read(line: &str) -> Result<Option<Reading>, EmfError> {
    // The member that makes a line one is first in what we write; a log line is not parsed for nothing.
    if !line.starts_with("{\"_aws\":") {
        return Ok(None);
    }
    let broken = |what: &str| EmfError(what.to_owned());
    let parsed: Map<String, Value> = serde_json::from_str(line).map_err(|error| EmfError(error.to_string()))?;
    let aws = parsed.get("_aws").ok_or_else(|| broken("there is no _aws"))?;
    if !aws["Timestamp"].is_i64() {
        return Err(broken("Timestamp is not an integer"));
    }
    let Some([directive]) = aws["CloudWatchMetrics"].as_array().map(Vec::as_slice) else {
        return Err(broken("there is not exactly one directive"));
    };
    let namespace = directive["Namespace"].as_str().unwrap_or_default().to_owned();
    if namespace.is_empty() || namespace.len() > 255 || namespace.starts_with("AWS/") {
        return Err(EmfError(format!("the namespace {namespace:?} is empty, too long or reserved")));
    }
    let Some([dimensions]) = directive["Dimensions"].as_array().map(Vec::as_slice) else {
        return Err(broken("there is not exactly one set of dimensions"));
    };
    let dimensions: Option<Vec<String>> =
        dimensions.as_array().into_iter().flatten().map(|name| name.as_str().map(str::to_owned)).collect();
    let dimensions = dimensions.ok_or_else(|| broken("a dimension is not a text"))?;
    if dimensions.len() > MAX_DIMENSIONS {
        return Err(EmfError(format!("{} dimensions are more than {MAX_DIMENSIONS}", dimensions.len())));
    }
    let labels: BTreeMap<String, String> =
        parsed.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    if let Some(missing) = dimensions.iter().find(|name| labels.get(*name).is_none_or(String::is_empty)) {
        return Err(EmfError(format!("the dimension {missing} has no value")));
    }
    let metrics = directive["Metrics"].as_array().map(Vec::as_slice).unwrap_or_default();
    if metrics.is_empty() || metrics.len() > MAX_METRICS {
        return Err(EmfError(format!("{} metrics are not between 1 and {MAX_METRICS}", metrics.len())));
    }
    let mut values = Vec::with_capacity(metrics.len());
    for metric in metrics {
        let text = |member: &str| metric[member].as_str().unwrap_or_default().to_owned();
        let (name, unit) = (text("Name"), text("Unit"));
        let numbers: Option<Vec<f64>> = match parsed.get(&name) {
            Some(Value::Array(numbers)) => numbers.iter().map(Value::as_f64).collect(),
            Some(number) => number.as_f64().map(|number| vec![number]),
            None => None,
        };
        let numbers = numbers.ok_or_else(|| EmfError(format!("{name} has no value, or one that is no number")))?;
        if numbers.is_empty() || numbers.len() > MAX_VALUES {
            return Err(EmfError(format!("{name} has {} values, not 1 to {MAX_VALUES}", numbers.len())));
        }
        values.push((name, unit, numbers));
    }
    Ok(Some(Reading { namespace, dimensions, labels, values }))
}

impl Reading {
    /// Adds the values to the metrics of this process, under all labels of the line. A host of functions does with their
    /// lines what CloudWatch does. Metrics that are not in the list are left out.
    pub fn replay(&self) {
        for (name, _, values) in &self.values {
            let Some(definition) = list::ALL.iter().find(|definition| definition.name == name) else { continue };
            let labels = definition.labels.iter().copied().chain([SERVICE]);
            let labels = labels.filter_map(|label| Some(metrics::Label::new(label, self.labels.get(label)?.clone())));
            definition.add_all(&Key::from_parts(definition.name, labels.collect::<Vec<_>>()), values);
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::with_local_recorder;

    use super::*;
    use crate::definition::Unit;
    use crate::list::{
        BREAKER_STATE, DEAD_LETTERS, EVENT_DELAY, EVENTS_PROCESSED, FRAUD_DETECTED, PUBLISH_DURATION, STEP_DURATION,
    };

    const NOW: i64 = 1_700_000_000_000;

    fn recorder() -> EmfRecorder {
        EmfRecorder::new("processor", "Forebay/test", Zeros::OfNewSeries)
    }

    /// The lines, each of which CloudWatch would take.
    fn readings(recorder: &EmfRecorder) -> Vec<Reading> {
        recorder.lines(NOW).iter().map(|line| read(line).unwrap().unwrap()).collect()
    }

    fn values_of(readings: &[Reading], name: &str) -> Vec<f64> {
        let of_name = |reading: &Reading| {
            reading.values.iter().filter(|(of, _, _)| of == name).flat_map(|(_, _, values)| values.clone()).collect()
        };
        readings.iter().flat_map(|reading| -> Vec<f64> { of_name(reading) }).collect()
    }

    #[test]
    fn a_line_is_what_the_specification_says() {
        let recorder = recorder();
        with_local_recorder(&recorder, || EVENTS_PROCESSED.add(3, ["click", "valid"]));
        assert_eq!(
            recorder.lines(NOW),
            [concat!(
                r#"{"_aws":{"CloudWatchMetrics":[{"Dimensions":[["service","status"]],"#,
                r#""Metrics":[{"Name":"events_processed_total","Unit":"Count"}],"Namespace":"Forebay/test"}],"#,
                r#""Timestamp":1700000000000},"events_processed_total":3,"service":"processor","status":"valid","type":"click"}"#
            )]
        );
    }

    #[test]
    fn every_observation_counts() {
        let recorder = recorder();
        with_local_recorder(&recorder, || {
            EVENT_DELAY.record_all((0..10_000).map(f64::from), []);
            PUBLISH_DURATION.record_all((0..150).map(f64::from), []);
        });
        let lines = readings(&recorder);
        assert_eq!(lines.len(), 100, "as few as possible: both metrics share them");
        let mut delays = values_of(&lines, "event_delay_seconds");
        delays.sort_by(f64::total_cmp);
        assert_eq!(delays, (0..10_000).map(f64::from).collect::<Vec<_>>());
        assert_eq!(values_of(&lines, "publish_duration_seconds").len(), 150);
        assert!(recorder.lines(NOW).is_empty(), "nothing is written twice");
    }

    #[test]
    fn a_series_begins_at_zero_and_is_then_written_when_it_grows() {
        let recorder = recorder();
        let flushed = |act: &dyn Fn()| {
            with_local_recorder(&recorder, act);
            values_of(&readings(&recorder), "dead_letters_total")
        };
        assert_eq!(flushed(&|| DEAD_LETTERS.begin(["tombstone"])), [0.0]);
        assert_eq!(flushed(&|| DEAD_LETTERS.begin(["tombstone"])), [0.0; 0]);
        assert_eq!(flushed(&|| DEAD_LETTERS.add(2, ["tombstone"])), [2.0]);
        assert_eq!(flushed(&|| {}), [0.0; 0]);
    }

    #[test]
    fn a_state_is_written_when_it_is_set_and_for_as_long_as_it_is_not_zero() {
        let recorder = recorder();
        let flushed = |act: &dyn Fn()| {
            with_local_recorder(&recorder, act);
            values_of(&readings(&recorder), "circuit_breaker_state")
        };
        assert_eq!(flushed(&|| BREAKER_STATE.begin(["kafka"])), [0.0]);
        assert_eq!(flushed(&|| {}), [0.0; 0]);
        assert_eq!(flushed(&|| BREAKER_STATE.set(2.0, ["kafka"])), [2.0]);
        assert_eq!(flushed(&|| {}), [2.0]);
        assert_eq!(flushed(&|| BREAKER_STATE.set(0.0, ["kafka"])), [0.0]);
        assert_eq!(flushed(&|| {}), [0.0; 0]);
    }

    #[test]
    fn without_a_reader_that_keeps_series_no_zero_is_written_but_one_that_was_set() {
        let recorder = EmfRecorder::new("processor", "Forebay/test", Zeros::Never);
        let flushed = |act: &dyn Fn()| {
            with_local_recorder(&recorder, act);
            let lines = readings(&recorder);
            [values_of(&lines, "dead_letters_total"), values_of(&lines, "circuit_breaker_state")].concat()
        };
        let begin = || {
            DEAD_LETTERS.begin(["tombstone"]);
            BREAKER_STATE.begin(["kafka"]);
        };
        assert_eq!(flushed(&begin), [0.0; 0]);
        assert_eq!(flushed(&|| BREAKER_STATE.set(0.0, ["s3"])), [0.0], "somebody has looked, and it is 0");
        assert_eq!(flushed(&|| DEAD_LETTERS.add(1, ["tombstone"])), [1.0]);
        assert_eq!(flushed(&|| BREAKER_STATE.set(2.0, ["kafka"])), [2.0]);
        assert_eq!(flushed(&|| BREAKER_STATE.set(0.0, ["kafka"])), [0.0]);
        assert_eq!(flushed(&|| {}), [0.0; 0]);
    }

    #[test]
    fn numbers_that_json_does_not_have_are_left_out() {
        let recorder = recorder();
        with_local_recorder(&recorder, || {
            for value in [f64::NAN, f64::INFINITY, 1.5, f64::NEG_INFINITY] {
                STEP_DURATION.record(value, ["store"]);
                BREAKER_STATE.set(value, ["s3"]);
            }
        });
        let lines = readings(&recorder);
        assert_eq!(values_of(&lines, "step_duration_seconds"), [1.5]);
        assert_eq!(values_of(&lines, "circuit_breaker_state"), [0.0; 0]);
    }

    #[test]
    fn concurrent_increments_are_neither_lost_nor_written_twice() {
        let recorder = recorder();
        let mut written = 0.0;
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    let recorder = recorder.clone();
                    let work = move || (0..5_000).for_each(|_| FRAUD_DETECTED.add(1, []));
                    scope.spawn(move || with_local_recorder(&recorder, work))
                })
                .collect();
            while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                written += values_of(&readings(&recorder), "fraud_detected_total").iter().sum::<f64>();
            }
        });
        written += values_of(&readings(&recorder), "fraud_detected_total").iter().sum::<f64>();
        assert_eq!(written, 20_000.0);
    }

    /// A sink that keeps what each call wrote.
    #[derive(Default)]
    struct Calls(Vec<Vec<u8>>);

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_write_with_its_end() {
        let mut calls = Calls::default();
        write(&mut calls, &["{}".to_owned(), "[]".to_owned()]);
        assert_eq!(calls.0, [b"{}\n".to_vec(), b"[]\n".to_vec()]);
    }

    #[test]
    fn lines_of_others_are_no_metrics_and_broken_ones_are_named() {
        assert_eq!(read(r#"{"level":"INFO","message":"batch processed"}"#), Ok(None));
        assert_eq!(read("REPORT RequestId: 1"), Ok(None));
        let recorder = recorder();
        with_local_recorder(&recorder, || EVENT_DELAY.record(0.5, []));
        let line = recorder.lines(NOW).remove(0);
        let reason = |from: &str, to: &str| read(&line.replace(from, to)).unwrap_err().to_string();
        assert!(
            reason("\"service\":\"processor\"", "\"service\":\"\"").ends_with("the dimension service has no value")
        );
        assert!(reason("Forebay/test", "AWS/Lambda").contains("reserved"));
        assert!(reason("[0.5]", "[]").ends_with("event_delay_seconds has 0 values, not 1 to 100"));
        assert!(reason("[0.5]", "\"much\"").ends_with("one that is no number"));
        assert!(reason("[0.5]", &format!("[{}0]", "0,".repeat(100))).contains("101 values"));
        assert!(reason("1700000000000", "\"now\"").ends_with("Timestamp is not an integer"));
    }

    #[test]
    fn a_host_counts_what_its_functions_wrote() {
        let function = recorder();
        with_local_recorder(&function, || {
            EVENTS_PROCESSED.add(3, ["click", "valid"]);
            EVENT_DELAY.record_all([0.5, 0.75], []);
            BREAKER_STATE.set(2.0, ["kafka"]);
        });
        let host = EmfRecorder::new("host", "Forebay/host", Zeros::Never);
        with_local_recorder(&host, || readings(&function).iter().for_each(Reading::replay));
        let lines = readings(&host);
        assert_eq!(values_of(&lines, "events_processed_total"), [3.0]);
        assert_eq!(values_of(&lines, "event_delay_seconds"), [0.5, 0.75]);
        assert_eq!(values_of(&lines, "circuit_breaker_state"), [2.0]);
        let labels = |reading: &Reading| (reading.labels["service"].clone(), reading.labels.get("type").cloned());
        assert!(lines.iter().any(|reading| labels(reading) == ("processor".to_owned(), Some("click".to_owned()))));
    }

    #[test]
    fn units_are_cloudwatchs() {
        for unit in [Unit::Count, Unit::Seconds, Unit::Bytes, Unit::None] {
            assert!(["Count", "Seconds", "Bytes", "None"].contains(&unit.cloudwatch()));
        }
    }
}
