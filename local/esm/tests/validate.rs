//! `esm validate`, as a user runs it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};
use std::process::Command;

const GOOD: &str = r#"{
  "FunctionName": "f",
  "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["b:9092"]}},
  "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"},
  "Topics": ["t", "u"],
  "StartingPosition": "TRIM_HORIZON"
}"#;

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

/// Whether all files are good, and what is printed on standard output.
fn validate(files: &[PathBuf]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_esm")).arg("validate").args(files).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn good_files_are_named_with_their_function_and_topics() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "good.json", GOOD);
    assert_eq!(validate(std::slice::from_ref(&file)), (true, format!("{}: ok, f reads t, u\n", file.display())));
}

#[test]
fn a_file_of_yaml_is_read_as_such() {
    let folder = tempfile::tempdir().unwrap();
    // Comments are none in JSON, and JSON is YAML.
    let good = write(folder.path(), "good.yaml", &format!("# the first\n{GOOD}"));
    let bad = write(folder.path(), "bad.yml", "FunctionName: f\nTopics: [t]\nTopic: t\n");
    let (is_good, printed) = validate(&[good, bad]);
    assert!(!is_good && printed.contains("good.yaml: ok, f reads t, u\n"), "{printed}");
    assert!(printed.contains("bad.yml: ") && printed.contains("line 3") && printed.contains("Topic"), "{printed}");
}

#[test]
fn every_bad_file_is_named_with_what_is_wrong_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let unknown = GOOD.replace("\"Topics\"", "\"Topic\"");
    let files = [
        write(folder.path(), "unknown.json", &unknown),
        write(folder.path(), "good.json", GOOD),
        write(
            folder.path(),
            "filter.json",
            &GOOD.replace(
                "\"FunctionName\": \"f\"",
                r#""FunctionName": "f", "FilterCriteria": {"Filters": [{"Pattern": "{\"key\":[1]}"}]}"#,
            ),
        ),
        folder.path().join("missing.json"),
    ];
    let (is_good, printed) = validate(&files);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(!is_good);
    assert_eq!(lines.len(), 4, "{printed}");
    for (line, expected) in lines.iter().zip([
        &["unknown.json: ", "unknown field `Topic`", "line 5 column"][..],
        &["good.json: ok"],
        &["filter.json: ", "filter 1: key"],
        &["missing.json: cannot be read"],
    ]) {
        assert!(expected.iter().all(|part| line.contains(part)), "{line}");
    }
}
