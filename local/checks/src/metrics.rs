//! The metrics that the source defines and those that the docs name.
//!
//! The source defines a metric in the arm of a `match` that gives a variant its name, `Counter::Variant => "name"` (or `Gauge`,
//! `Histogram`). The docs define it in the first column of the table under `## Metrics` of `TABLE`, and name it elsewhere
//!
//! - in any file, as `name{label…}` or with one of the `ENDINGS`, in backquotes;
//! - under `## Alarms`, as any word with an underscore in backquotes, except for `FIELDS`.

use std::collections::BTreeSet;

use regex::Regex;

use crate::text::{Files, code, first_cells, program, section};

/// The file whose table has every metric.
const TABLE: &str = "shared/lambda/README.md";

/// The ends of names that only metrics have.
const ENDINGS: [&str; 2] = ["_total", "_seconds"];

/// Fields of log lines and of requests that alarms name.
const FIELDS: [&str; 2] = ["dead_lettered", "wait_ms"];

fn defined(sources: &Files) -> Result<BTreeSet<String>, regex::Error> {
    let arm = Regex::new(r#"\b(?:Counter|Gauge|Histogram)::\w+ => "([^"]+)""#)?;
    let mut found = BTreeSet::new();
    for source in sources.values() {
        let program = program(source);
        found.extend(arm.captures_iter(&program).map(|arm| arm[1].to_owned()));
    }
    Ok(found)
}

fn in_table(markdown: &str) -> BTreeSet<String> {
    let cells = first_cells(section(markdown, "Metrics"));
    cells.filter_map(|cell| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned())).collect()
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

/// Metrics that the source defines and the table lacks, and metrics that the docs name and the source lacks.
///
/// # Errors
/// Never: the patterns are constant.
pub fn mistakes(sources: &Files, docs: &Files) -> Result<Vec<String>, regex::Error> {
    let defined = defined(sources)?;
    let table = docs.get(TABLE).map(|text| in_table(text)).unwrap_or_default();
    let missing = defined.difference(&table);
    let mut found: Vec<String> = missing.map(|name| format!("{name} is not in the table of {TABLE}")).collect();
    let of_table = table.difference(&defined).map(|name| (TABLE, name.clone()));
    let mut unknown: BTreeSet<(&str, String)> = of_table.collect();
    let word = Regex::new(r"^([a-z]+(?:_[a-z]+)+)(\{.*)?$")?;
    for (file, text) in docs {
        let names = named(text, &word).into_iter().filter(|name| !defined.contains(name));
        unknown.extend(names.map(|name| (file.as_str(), name)));
    }
    found.extend(
        unknown.into_iter().map(|(file, name)| format!("{file} names the metric {name}, which does not exist")),
    );
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "enum Counter {}\n        match self {\n            Counter::A => \"a_total\",\n            Gauge::B => \"b_state\",\n";

    fn found(table: &str, alarms: &str) -> Vec<String> {
        let table = format!("# x\n\n## Metrics\n\n| name | labels |\n|---|---|\n{table}");
        let alarms = format!("# y\n\n`received_at` is a field.\n\n## Alarms\n\n{alarms}");
        let docs = [(TABLE, table), ("functions/y/README.md", alarms)];
        let docs = docs.into_iter().map(|(file, text)| (file.to_owned(), text)).collect();
        mistakes(&Files::from([("metrics.rs".to_owned(), SOURCE.to_owned())]), &docs).unwrap()
    }

    const BOTH: &str = "| `a_total` | `some_label` |\n| `b_state` | |\n";

    #[test]
    fn true_docs_pass() {
        assert!(
            found(BOTH, "- `a_total` rises, `b_state{of=\"kafka\"}` is 2, or `dead_lettered` in the log\n").is_empty()
        );
    }

    #[test]
    fn a_metric_that_is_in_no_table_is_found() {
        assert_eq!(found("| `a_total` | |\n", "`b_state` is 2"), [format!("b_state is not in the table of {TABLE}")]);
    }

    #[test]
    fn a_metric_that_does_not_exist_is_found() {
        let unknown = |file: &str, name: &str| format!("{file} names the metric {name}, which does not exist");
        assert_eq!(found(&format!("{BOTH}| `lag` | |\n"), ""), [unknown(TABLE, "lag")]);
        let alarms = "- `b_states{of=\"s3\"}` at 2\n- `queue_lag` grows\n";
        assert_eq!(found(BOTH, alarms), ["b_states", "queue_lag"].map(|name| unknown("functions/y/README.md", name)));
        assert_eq!(found(BOTH, "\n## Next\n\n`c_total`\n"), [unknown("functions/y/README.md", "c_total")]);
    }
}
