//! The metrics that the source defines and those that the docs name.
//!
//! The list of the source (`LIST`) defines a metric as `in Unit "name" {labels}`. The docs name it
//!
//! - in any file, as `name{label…}` or with one of the `ENDINGS`, in backquotes;
//! - under `## Alarms`, as any word with an underscore in backquotes, except for `FIELDS`.
//!
//! That `docs/metrics.md` has every metric is tested beside the list, from which it is made.

use std::collections::BTreeSet;

use regex::Regex;

use crate::text::{Files, code, program, section};

/// The file that defines every metric.
const LIST: &str = "shared/telemetry/src/list.rs";

/// The ends of names that only metrics have.
const ENDINGS: [&str; 2] = ["_total", "_seconds"];
/// The ends of the series of a histogram, as Prometheus names them.
const SERIES: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Fields of log lines and of requests that alarms name.
const FIELDS: [&str; 1] = ["wait_ms"];

fn defined(sources: &Files) -> Result<BTreeSet<String>, regex::Error> {
    let metric = Regex::new(r#"\bin \w+ "([^"]+)" \{"#)?;
    let list = sources.get(LIST).map(|source| program(source)).unwrap_or_default();
    Ok(metric.captures_iter(&list).map(|metric| metric[1].to_owned()).collect())
}

fn named(markdown: &str, word: &Regex) -> BTreeSet<String> {
    let alarms: BTreeSet<String> = code(section(markdown, "Alarms")).into_iter().collect();
    let name = |code: &String| {
        let word = word.captures(code)?;
        let is_metric = word.get(2).is_some()
            || ENDINGS.iter().any(|ending| word[1].ends_with(ending))
            || (alarms.contains(code) && !FIELDS.contains(&&word[1]));
        is_metric.then(|| word[1].to_owned())
    };
    code(markdown).iter().filter_map(name).collect()
}

/// Metrics that the docs name and the source lacks.
///
/// # Errors
/// Never: the patterns are constant.
pub fn mistakes(sources: &Files, docs: &Files) -> Result<Vec<String>, regex::Error> {
    let defined = defined(sources)?;
    if defined.is_empty() {
        return Ok(vec![format!("{LIST} defines no metric that can be read")]);
    }
    let exists = |name: &str| {
        let of_histogram = SERIES.iter().filter_map(|series| name.strip_suffix(series));
        std::iter::once(name).chain(of_histogram).any(|name| defined.contains(name))
    };
    let mut unknown = BTreeSet::new();
    let word = Regex::new(r"^([a-z]+(?:_[a-z]+)+)(\{.*)?$")?;
    for (file, text) in docs {
        unknown.extend(named(text, &word).into_iter().filter(|name| !exists(name)).map(|name| (file.as_str(), name)));
    }
    let text = |(file, name)| format!("{file} names the metric {name}, which does not exist");
    Ok(unknown.into_iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "metrics! {\n    /// A.\n    A: Counter in Count \"a_total\" {x} dimensions {} of [b];\n    B: Gauge in None \"b_state\" {of} dimensions {of} of [b];\n    C: Histogram(Delay) in Seconds \"c_seconds\" {} dimensions {} of [b];\n}\n";

    fn found(alarms: &str) -> Vec<String> {
        let text = format!("# y\n\n`received_at` is a field.\n\n## Alarms\n\n{alarms}");
        let docs = Files::from([("functions/y/README.md".to_owned(), text)]);
        mistakes(&Files::from([(LIST.to_owned(), SOURCE.to_owned())]), &docs).unwrap()
    }

    #[test]
    fn true_docs_pass() {
        assert!(found("- `a_total` rises, `b_state{of=\"kafka\"}` is 2, or `wait_ms` in the request\n").is_empty());
        assert!(found("`c_seconds_bucket{le=\"1\"}`, `c_seconds_count`").is_empty());
    }

    #[test]
    fn a_metric_that_does_not_exist_is_found() {
        let unknown = |name: &str| format!("functions/y/README.md names the metric {name}, which does not exist");
        let alarms = "- `b_states{of=\"s3\"}` at 2\n- `queue_lag` grows\n";
        assert_eq!(found(alarms), ["b_states", "queue_lag"].map(unknown));
        assert_eq!(found("\n## Next\n\n`c_total`\n"), [unknown("c_total")]);
    }

    #[test]
    fn a_list_that_is_not_there_is_no_proof() {
        assert_eq!(mistakes(&Files::new(), &Files::new()).unwrap().len(), 1);
    }
}
