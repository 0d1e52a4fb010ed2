//! compose.yaml, the Dockerfile and the names of images agree with each other and with the code.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use checks::containers::{Containers, mistakes};
use checks::settings;
use checks::text::files;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

#[test]
fn containers_are_what_the_code_expects() {
    let mut sources = files(&root(), ".rs").unwrap();
    sources.retain(|file, _| file.split('/').nth(2) == Some("src"));
    let functions: BTreeSet<String> = std::fs::read_dir(root().join("functions"))
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    let (compose, dockerfile) = (read("local/compose.yaml"), read("local/Dockerfile"));
    let (images, example) = (read("local/images.env"), read("local/.env.example"));
    let (prometheus, stack_options) = (read("local/compose/prometheus.yml"), read("local/stack/src/options.rs"));
    let found = mistakes(&Containers {
        compose: &compose,
        dockerfile: &dockerfile,
        images: &images,
        example: &example,
        prometheus: &prometheus,
        stack_options: &stack_options,
        functions: &functions,
        read: &settings::variables(&sources).unwrap(),
    });
    let found = found.unwrap();
    assert!(found.is_empty(), "the containers and the code differ:\n{}", found.join("\n"));
}
