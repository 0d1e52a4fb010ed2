//! Which crate may import which.

use std::collections::{BTreeMap, BTreeSet};

/// The layers, lowest first. A crate imports crates of lower layers only, unless [`BESIDE`] says otherwise.
const LAYERS: [(&str, &[&str]); 8] = [
    ("event", &["event"]),
    ("pipeline", &["pipeline"]),
    ("statistics", &["statistics", "webhooks"]),
    ("configuration", &["settings", "aws", "process", "telemetry", "tls", "traces"]),
    ("adapters", &["kafka", "postgres", "dynamodb", "archive", "invoke", "scoring", "api_keys", "access"]),
    ("edge", &["lambda"]),
    (
        "functions",
        &[
            "ingest",
            "processor",
            "scorer",
            "archiver",
            "redriver",
            "replayer",
            "rescorer",
            "aggregator",
            "notifier",
            "query",
            "maintainer",
        ],
    ),
    ("local", &["checks", "contract", "services", "host", "esm", "forebay", "stack", "chaos", "bench"]),
];

/// Imports inside one layer.
const BESIDE: [(&str, &str); 17] = [
    ("process", "settings"),
    ("telemetry", "settings"),
    ("traces", "settings"),
    // Requests to X-Ray are signed, and spans that are not sent are counted.
    ("traces", "aws"),
    ("traces", "telemetry"),
    // A setting says where a secret is, and `aws` reads it from there.
    ("aws", "settings"),
    // The scorer is a function.
    ("scoring", "invoke"),
    // One choice between the two.
    ("access", "dynamodb"),
    ("access", "postgres"),
    // What commands for a running pipeline share: its addresses, the client, the reader of access logs.
    ("stack", "forebay"),
    ("stack", "services"),
    ("stack", "host"),
    ("stack", "esm"),
    ("bench", "stack"),
    ("bench", "host"),
    ("chaos", "stack"),
    ("chaos", "services"),
];

/// Crates for tests only: nothing may import them but as a dev-dependency.
const TESTS_ONLY: [&str; 1] = ["testkit"];

/// What must not be linked, directly or through others: `(crate, prefix of what it must not link)`.
const NEVER_LINKED: [(&str, &[&str]); 12] = [
    ("event", &["aws-", "tokio"]),
    ("pipeline", &["aws-"]),
    ("kafka", HTTP_SERVERS),
    ("postgres", HTTP_SERVERS),
    ("dynamodb", HTTP_SERVERS),
    ("archive", HTTP_SERVERS),
    ("invoke", HTTP_SERVERS),
    ("scoring", HTTP_SERVERS),
    ("api_keys", HTTP_SERVERS),
    ("access", HTTP_SERVERS),
    ("esm", &["lambda"]),
    ("host", &["lambda"]),
];

/// HTTP servers, the Lambda runtime, metrics, and the edge itself.
const HTTP_SERVERS: &[&str] = &["axum", "lambda", "lambda_http", "lambda_runtime", "metrics-exporter-prometheus"];

/// A crate's normal dependencies, by crate.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, crates)| crates.contains(&name))
}

/// What breaks the rules. `members` are the crates of this workspace.
pub fn violations(members: &BTreeSet<String>, normal: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for member in members.iter().filter(|member| !TESTS_ONLY.contains(&member.as_str())) {
        let Some(layer) = layer_of(member) else {
            found.push(format!("{member} has no layer: give it one in local/checks/src/layers.rs"));
            continue;
        };
        let empty = BTreeSet::new();
        for imported in normal.get(member).unwrap_or(&empty).intersection(members) {
            if TESTS_ONLY.contains(&imported.as_str()) {
                found.push(format!("{member} links {imported}, which is for tests: make it a dev-dependency"));
            } else if BESIDE.contains(&(member.as_str(), imported.as_str())) {
                continue;
            } else if layer_of(imported).is_none_or(|below| below >= layer) {
                found.push(format!("{member} imports {imported}, which is not in a lower layer"));
            }
        }
    }
    // The edge stands beside the adapters: it may not import them either.
    for adapter in LAYERS.iter().filter(|(name, _)| *name == "adapters").flat_map(|(_, crates)| *crates) {
        if normal.get("lambda").is_some_and(|imported| imported.contains(*adapter)) {
            found.push(format!("lambda imports the adapter {adapter}"));
        }
    }
    for (name, forbidden) in NEVER_LINKED {
        let linked = linked_by(name, normal);
        let is_forbidden = |linked: &&String| {
            let matches = |prefix: &str| {
                if prefix.ends_with('-') { linked.starts_with(prefix) } else { linked.as_str() == prefix }
            };
            forbidden.iter().any(|prefix| matches(prefix))
        };
        for linked in linked.iter().filter(is_forbidden) {
            found.push(format!("{name} links {linked}"));
        }
    }
    found
}

/// Everything that a crate links, itself not included.
fn linked_by(name: &str, normal: &Graph) -> BTreeSet<String> {
    let mut linked = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(next) = open.pop() {
        for dependency in normal.get(&next).into_iter().flatten() {
            if linked.insert(dependency.clone()) {
                open.push(dependency.clone());
            }
        }
    }
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(graph: &[(&str, &[&str])]) -> Vec<String> {
        let members = graph.iter().map(|(name, _)| (*name).to_owned()).collect();
        let normal = graph
            .iter()
            .map(|(name, imported)| ((*name).to_owned(), imported.iter().map(|name| (*name).to_owned()).collect()))
            .collect();
        violations(&members, &normal)
    }

    #[test]
    fn imports_may_point_down_only() {
        assert_eq!(found(&[("event", &[]), ("pipeline", &["event"]), ("kafka", &["pipeline"])]), [""; 0]);
        assert_eq!(
            found(&[("event", &["pipeline"]), ("pipeline", &[])]),
            ["event imports pipeline, which is not in a lower layer"]
        );
        assert_eq!(found(&[("ingest", &["query"]), ("query", &[])]).len(), 1);
        assert_eq!(found(&[("lambda", &["kafka"]), ("kafka", &[])]), ["lambda imports the adapter kafka"]);
    }

    #[test]
    fn what_must_not_be_linked_is_found_through_others() {
        let graph: &[(&str, &[&str])] = &[("postgres", &["tower"]), ("pipeline", &["smithy"])];
        let members = BTreeSet::from(["postgres".to_owned(), "pipeline".to_owned()]);
        let mut normal: Graph = graph
            .iter()
            .map(|(name, imported)| ((*name).to_owned(), imported.iter().map(|name| (*name).to_owned()).collect()))
            .collect();
        normal.insert("tower".into(), BTreeSet::from(["axum".to_owned()]));
        normal.insert("smithy".into(), BTreeSet::from(["aws-types".to_owned()]));
        assert_eq!(violations(&members, &normal), ["pipeline links aws-types", "postgres links axum"]);
    }

    #[test]
    fn a_new_crate_needs_a_layer_and_testkit_is_never_linked() {
        assert!(found(&[("newcomer", &[])])[0].starts_with("newcomer has no layer"));
        assert!(found(&[("ingest", &["testkit"]), ("testkit", &[])])[0].contains("make it a dev-dependency"));
    }
}
