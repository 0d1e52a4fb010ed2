//! The samples of `events/` as the examples of the document.
//!
//! A sample is the event of a trigger; its body, path and parameters are the example.

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::in_repository;

/// `(operation, function, sample)`: the samples that are answered with a success.
pub const EXAMPLES: [(&str, &str, &str); 12] = [
    ("sendEvent", "ingest", "single-transaction"),
    ("sendEvent", "ingest", "cloudevent-structured"),
    ("sendEventAlias", "ingest", "single-transaction"),
    ("sendEvents", "ingest", "batch-mixed"),
    ("sendEvents", "ingest", "cloudevent-batch"),
    ("getEvent", "query", "known-event"),
    ("getEvent", "query", "receipt-wait"),
    ("findEvents", "query", "id-parameter-http-api"),
    ("findEvents", "query", "campaign-events"),
    ("getCampaignStats", "query", "campaign-stats"),
    ("getStats", "query", "campaign-stats"),
    ("streamOutcomes", "query", "stream"),
];

/// The other samples, and why they are no examples.
#[cfg(test)]
const OTHERS: [(&str, &[&str]); 3] = [
    ("refused", &["bad-json", "bad-key", "schema-violation", "half-receipt", "stats-too-long"]),
    ("not in the body alone", &["cloudevent-binary", "gzip-batch", "odd-id"]),
    (
        "the same request through another trigger",
        &[
            "function-url",
            "http-api-custom-domain",
            "http-api-format-1",
            "http-api-stage",
            "load-balancer",
            "rest-api-custom-domain",
            "rest-api-stage",
            "id-parameter-load-balancer",
            "id-parameter-rest-api",
        ],
    ),
];

/// Adds the examples of an operation to its body and parameters.
pub(crate) fn add(operation: &mut Map<String, Value>) -> anyhow::Result<()> {
    let id = operation["operationId"].as_str().context("it has no id")?.to_owned();
    for (_, function, case) in EXAMPLES.iter().filter(|(of, _, _)| *of == id) {
        let path = in_repository(&format!("events/{function}/{case}.json"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let trigger: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        match operation.get_mut("requestBody") {
            Some(body) => add_body(body, case, &trigger),
            None => add_parameters(operation, case, &trigger),
        }
        .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn add_body(body: &mut Value, case: &str, trigger: &Value) -> anyhow::Result<()> {
    let media_type = trigger["headers"]["content-type"].as_str().context("it has no content-type")?;
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let value: Value = serde_json::from_str(trigger["body"].as_str().context("it has no body")?)?;
    let content = body["content"].get_mut(media_type).context("the operation does not take its media type")?;
    add_example(content, case, value);
    Ok(())
}

fn add_parameters(operation: &mut Map<String, Value>, case: &str, trigger: &Value) -> anyhow::Result<()> {
    let query = trigger["rawQueryString"].as_str().context("it has no rawQueryString")?;
    let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let segment = trigger["rawPath"].as_str().and_then(|path| path.split('/').nth(2)).map(str::to_owned);
    for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
        let sent = query.iter().find(|(name, _)| parameter["name"] == **name).map(|(_, value)| value.clone());
        let value = if parameter["in"] == "path" { segment.clone() } else { sent };
        let Some(value) = value else { continue };
        let is_number = parameter["schema"]["type"].to_string().contains("integer");
        let value = if is_number { serde_json::from_str(&value)? } else { json!(value) };
        add_example(parameter, case, value);
    }
    Ok(())
}

fn add_example(at: &mut Value, case: &str, value: Value) {
    if !at["examples"].is_object() {
        at["examples"] = json!({});
    }
    at["examples"][case] = json!({"value": value});
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_sample_is_an_example_or_has_a_reason_why_not() {
        let mut files = BTreeSet::new();
        for function in ["ingest", "query"] {
            for file in std::fs::read_dir(in_repository(&format!("events/{function}"))).unwrap() {
                files.insert(file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
            }
        }
        let named =
            EXAMPLES.iter().map(|(_, _, case)| *case).chain(OTHERS.iter().flat_map(|(_, cases)| *cases).copied());
        assert_eq!(named.map(str::to_owned).collect::<BTreeSet<_>>(), files);
    }
}
