//! The files in `docs/` are those that the code makes, and have every route.

use std::collections::BTreeSet;
use std::fs;

use contract::document::{document, operations};
use contract::{in_repository, made_files};

#[test]
fn the_files_are_those_that_the_code_makes() {
    for (path, made) in made_files().unwrap() {
        let there = fs::read_to_string(in_repository(path)).unwrap();
        assert!(there == made, "{path} is not what the code makes: run `make openapi`");
    }
}

/// A test of query compares these routes with its router's.
#[test]
fn every_route_of_api_gateway_is_described() {
    let terraform = fs::read_to_string(in_repository("infra/terraform/modules/pipeline/triggers.tf")).unwrap();
    let routes_of = |mark: &str, method: &'static str| {
        let line = terraform.lines().find(|line| line.contains(mark)).unwrap().to_owned();
        let quoted: Vec<String> = line.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        let paths = quoted.into_iter().filter(|text| text.starts_with('/'));
        paths.map(|path| (method, path.replace("+}", "}"))).collect::<Vec<_>>()
    };
    let routes = [routes_of("setproduct([\"POST\"", "post"), routes_of("GET ${path}", "get")].concat();
    let document = document().unwrap();
    let described: BTreeSet<(&str, String)> =
        operations(&document).map(|(path, method, _)| (method, path.to_owned())).collect();
    assert_eq!(described, routes.into_iter().collect());
}

#[test]
fn every_status_but_a_success_is_a_problem_document() {
    let document = document().unwrap();
    let mut seen = 0;
    for (path, method, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let pointer = response["$ref"].as_str().map(|reference| reference.trim_start_matches('#'));
            let response = pointer.map_or(response, |pointer| document.pointer(pointer).unwrap());
            let media_types: Vec<&String> = response["content"].as_object().unwrap().keys().collect();
            let expected = match (path, status.starts_with('2')) {
                ("/stream", true) => "text/event-stream",
                (_, true) => "application/json",
                (_, false) => "application/problem+json",
            };
            assert_eq!(media_types, [expected], "{method} {path} {status}");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
}
