//! The list, and the page that is made from it.

use std::collections::BTreeSet;

use telemetry::{Kind, Unit, docs, list};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

#[test]
fn the_page_is_made_from_the_list() {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, docs::page()).unwrap();
    }
    let page = std::fs::read_to_string(PAGE).unwrap();
    assert!(page == docs::page(), "docs/metrics.md is stale: run `make metrics-docs`");
}

#[test]
fn names_are_unique_and_follow_the_conventions() {
    let mut seen = BTreeSet::new();
    for metric in list::ALL {
        assert!(seen.insert(metric.name), "{} is there twice", metric.name);
        let ends = |end: &str| metric.name.ends_with(end);
        match (metric.kind, metric.unit) {
            (Kind::Counter, _) => assert!(ends("_total"), "{}", metric.name),
            (_, Unit::Seconds) => assert!(ends("_seconds"), "{}", metric.name),
            (_, Unit::Bytes) => assert!(ends("_bytes"), "{}", metric.name),
            (_, Unit::Count | Unit::None) => assert!(!ends("_total"), "{}", metric.name),
        }
        assert_eq!(metric.kind == Kind::Histogram, metric.buckets.is_some(), "{}", metric.name);
        let labels: BTreeSet<_> = metric.labels.iter().collect();
        assert!(metric.dimensions.iter().all(|name| labels.contains(name)), "{}", metric.name);
        assert!(metric.meaning.trim().ends_with('.'), "{}", metric.name);
        if let Some(buckets) = metric.buckets {
            assert!(buckets.bounds().is_sorted(), "{}", metric.name);
        }
    }
}
