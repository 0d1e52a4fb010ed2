//! The docs name what exists, and what exists is in the docs: settings, metrics and make targets.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};

use checks::text::{Files, files};
use checks::{make_targets, metrics, settings};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn docs() -> Files {
    files(&root(), ".md").unwrap()
}

/// The programs: not their tests, examples and build scripts.
fn sources() -> Files {
    let mut sources = files(&root(), ".rs").unwrap();
    sources.retain(|file, _| file.split('/').nth(2) == Some("src"));
    sources
}

#[track_caller]
fn assert_none(mistakes: &[String]) {
    assert!(mistakes.is_empty(), "the docs and the code differ:\n{}", mistakes.join("\n"));
}

#[test]
fn settings_are_those_that_the_source_reads() {
    let example = std::fs::read_to_string(root().join(settings::EXAMPLE)).unwrap();
    assert_none(&settings::mistakes(&sources(), &docs(), &example).unwrap());
}

#[test]
fn metrics_are_those_that_the_source_defines() {
    assert_none(&metrics::mistakes(&sources(), &docs()).unwrap());
}

#[test]
fn make_targets_are_those_of_the_makefile() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    assert_none(&make_targets::mistakes(&makefile, &docs()).unwrap());
}
