//! Whether compose.yaml, the Dockerfile, the file of image names and the code agree.
//!
//! `compose.yaml` is read line by line, so it has to stay as it is laid out: two blanks for each level, and a variable of a
//! container as `NAME: value` under `environment:`. A port of a container that is not ours is under `expose:`.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

/// Programs with an image that are not functions.
const OTHER_PROGRAMS: [&str; 4] = ["esm", "stack", "services", "emulator"];
/// Variables of our containers that no program of ours reads.
const READ_BY_OTHERS: [&str; 3] = [
    // The AWS SDK.
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    // The Runtime Interface Emulator.
    "AWS_LAMBDA_FUNCTION_TIMEOUT",
];
/// Where the Runtime Interface Emulator listens.
const EMULATOR_PORT: &str = "8080";
/// The path of every function under the emulator.
const EMULATED: &str = "/functions/function/invocations";

/// What is compared, as text.
pub struct Containers<'a> {
    pub compose: &'a str,
    pub dockerfile: &'a str,
    /// `local/images.env`.
    pub images: &'a str,
    /// `local/.env.example`.
    pub example: &'a str,
    pub prometheus: &'a str,
    /// `local/stack/src/options.rs`, which has the ports of `make run`.
    pub stack_options: &'a str,
    pub functions: &'a BTreeSet<String>,
    /// Variables that the source or a library reads.
    pub read: &'a BTreeSet<String>,
}

/// A service of compose.yaml, with what it takes over from the shared blocks above.
#[derive(Default)]
struct Service {
    image: String,
    variables: BTreeMap<String, String>,
    is_emulated: bool,
    exposed: BTreeSet<String>,
}

impl Service {
    /// Where it listens, if it is one of ours.
    fn port(&self) -> Option<&str> {
        if self.is_emulated { Some(EMULATOR_PORT) } else { self.variables.get("PORT").map(String::as_str) }
    }

    fn listens_at(&self, port: &str) -> bool {
        self.port() == Some(port) || self.exposed.contains(port)
    }

    fn program(&self) -> Option<&str> {
        self.image.strip_prefix("forebay/")?.strip_suffix(":${FOREBAY_TAG}")
    }
}

/// The blocks of the top level, or of `services`: each name with its lines.
fn blocks<'a>(lines: impl Iterator<Item = &'a str>, indent: usize) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lines.filter(|line| !line.trim_start().starts_with('#')) {
        let depth = line.len() - line.trim_start().len();
        if depth == indent
            && let Some((head, _)) = line.trim_start().split_once(':')
        {
            name = head;
            found.entry(name).or_default();
        } else if depth > indent
            && let Some(block) = found.get_mut(name)
        {
            block.push(line);
        }
    }
    found
}

fn variables(block: &[&str], pattern: &Regex) -> BTreeMap<String, String> {
    let pairs = block.iter().filter_map(|line| pattern.captures(line));
    pairs.map(|pair| (pair[1].to_owned(), pair[2].trim_matches('"').to_owned())).collect()
}

fn services(compose: &str) -> Result<BTreeMap<&str, Service>, regex::Error> {
    let variable = Regex::new(r"^\s+([A-Z][A-Z0-9_]*): (.*)$")?;
    let top = blocks(compose.lines(), 0);
    let of_block = |name: &str| top.get(name).map(|block| variables(block, &variable)).unwrap_or_default();
    let (shared, emulated) = (of_block("x-environment"), of_block("x-emulated"));
    let bodies = top.get("services").into_iter().flat_map(|lines| blocks(lines.iter().copied(), 2));
    let service = |(name, block): (_, Vec<&str>)| {
        let has = |text: &str| block.iter().any(|line| line.contains(text));
        let image = block.iter().find_map(|line| line.trim().strip_prefix("image: ")).unwrap_or_default().to_owned();
        let is_emulated = has("<<: *emulated");
        let mut of_service = if is_emulated || has("<<: *environment") { shared.clone() } else { BTreeMap::new() };
        if is_emulated {
            of_service.extend(emulated.clone());
        }
        of_service.extend(variables(&block, &variable));
        let exposed = block.iter().filter_map(|line| line.trim().strip_prefix("expose: "));
        let exposed = exposed.flat_map(|ports| ports.split('"').skip(1).step_by(2)).map(str::to_owned).collect();
        (name, Service { image, variables: of_service, is_emulated, exposed })
    };
    Ok(bodies.map(service).collect())
}

/// `NAME=value` of a file, without comments.
fn assignments(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect()
}

/// What the files do not agree about.
///
/// # Errors
/// Never: the patterns are constant.
pub fn mistakes(of: &Containers<'_>) -> Result<Vec<String>, regex::Error> {
    let services = services(of.compose)?;
    let (images, example) = (assignments(of.images), assignments(of.example));
    let mut found = Vec::new();
    found.extend(names_of_images(&images));
    found.extend(images_in_use(of, &images));
    found.extend(programs(of.functions, &services));
    found.extend(interpolated(of.compose, &images, &example)?);
    found.extend(ports_of_the_stack(of.stack_options, &example)?);
    found.extend(addresses(of.compose, &services)?);
    found.extend(scraped(of.prometheus, &services)?);
    for (name, service) in services.iter().filter(|(_, service)| service.program().is_some()) {
        let known = |variable: &&String| of.read.contains(*variable) || READ_BY_OTHERS.contains(&variable.as_str());
        let unread = service.variables.keys().filter(|variable| !known(variable));
        found.extend(unread.map(|variable| format!("compose.yaml gives {name} {variable}, which nobody reads")));
    }
    Ok(found)
}

fn names_of_images(images: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, image) in images.iter().filter(|(name, _)| name.ends_with("_IMAGE")) {
        let (repository, tag) = image.split_once(':').unwrap_or((image, ""));
        let exact = tag.chars().any(|character| character.is_ascii_digit());
        if !exact {
            found.push(format!("images.env: {name}={image} has no exact tag"));
        }
        if repository.split('/').count() > 2 || repository.split('/').next().is_some_and(|part| part.contains('.')) {
            found.push(format!("images.env: {name}={image} names a registry"));
        }
    }
    found
}

fn images_in_use(of: &Containers<'_>, images: &BTreeMap<&str, &str>) -> Vec<String> {
    let arguments: BTreeSet<&str> =
        of.dockerfile.lines().filter_map(|line| line.strip_prefix("ARG ")).filter(|name| !name.contains('=')).collect();
    let is_external = |name: &&str| name.ends_with("_IMAGE") || name.ends_with("_VERSION");
    let missing = arguments.iter().filter(|name| is_external(name) && !images.contains_key(**name));
    let unused =
        images.keys().filter(|name| !arguments.contains(*name) && !of.compose.contains(&format!("${{{name}}}")));
    let missing = missing.map(|name| format!("the Dockerfile takes {name}, which images.env lacks"));
    missing.chain(unused.map(|name| format!("images.env names {name}, which nobody uses"))).collect()
}

fn programs(functions: &BTreeSet<String>, services: &BTreeMap<&str, Service>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, Service { image, .. }) in services {
        let external = image.strip_prefix("${").and_then(|image| image.strip_suffix("_IMAGE}"));
        let ours = services[name].program();
        if external.is_none() && !ours.is_some_and(|of| functions.contains(of) || OTHER_PROGRAMS.contains(&of)) {
            found
                .push(format!("compose.yaml: {name} has the image {image:?}, which is neither ours nor in images.env"));
        }
    }
    let used: BTreeSet<&str> = services.values().filter_map(Service::program).collect();
    let idle = functions.iter().filter(|function| !used.contains(function.as_str()));
    found.extend(idle.map(|function| format!("compose.yaml does not run the function {function}")));
    found
}

/// `${NAME}` must be in the file of images, `${NAME:-default}` in the example with the same default.
fn interpolated(
    compose: &str,
    images: &BTreeMap<&str, &str>,
    example: &BTreeMap<&str, &str>,
) -> Result<Vec<String>, regex::Error> {
    let pattern = Regex::new(r"\$\{([A-Z0-9_]+)(?::-([^}]*))?\}")?;
    let (mut found, mut used) = (BTreeSet::new(), BTreeSet::new());
    for name in pattern.captures_iter(compose) {
        let default = name.get(2).map(|default| default.as_str());
        let name = name.get(1).map_or("", |name| name.as_str());
        used.insert(name);
        match default {
            None if !images.contains_key(name) => _ = found.insert(format!("compose.yaml: images.env lacks {name}")),
            Some(default) if example.get(name) != Some(&default) => {
                _ = found.insert(format!("compose.yaml: .env.example lacks {name}={default}"));
            }
            None | Some(_) => {}
        }
    }
    let unused = example.keys().filter(|name| !used.contains(*name));
    found.extend(unused.map(|name| format!(".env.example names {name}, which compose.yaml does not use")));
    Ok(found.into_iter().collect())
}

/// A port has the same name and default as in `make run`. Those for metrics are not published: Prometheus is inside.
fn ports_of_the_stack(options: &str, example: &BTreeMap<&str, &str>) -> Result<Vec<String>, regex::Error> {
    let port = Regex::new(r#"port\("([A-Z0-9_]+)", "[^"]*", (\d{2,})\)"#)?;
    let published = port.captures_iter(options).filter(|port| !port[1].ends_with("METRICS_PORT"));
    let wrong = published.filter(|port| example.get(&port[1]) != Some(&&port[2]));
    Ok(wrong.map(|port| format!(".env.example lacks {}={}, the port of `make run`", &port[1], &port[2])).collect())
}

/// Every `http://service:port/path` leads to a service of ours that listens there, and to the path that it has.
fn addresses(compose: &str, services: &BTreeMap<&str, Service>) -> Result<Vec<String>, regex::Error> {
    let url = Regex::new(r#"http://([a-z0-9-]+):(\d+)([^\s",\\]*)"#)?;
    let mut found = BTreeSet::new();
    for url in url.captures_iter(compose) {
        let service = services.get(&url[1]);
        if !service.is_some_and(|service| service.listens_at(&url[2])) {
            found.insert(format!("compose.yaml: nobody listens at {}", &url[0]));
        }
        let is_call = url[3].contains("/functions/");
        if is_call && service.is_some_and(|service| service.is_emulated) != url[3].ends_with(EMULATED) {
            found.insert(format!("compose.yaml: {} is not the path of its function", &url[0]));
        }
    }
    Ok(found.into_iter().collect())
}

fn scraped(prometheus: &str, services: &BTreeMap<&str, Service>) -> Result<Vec<String>, regex::Error> {
    let target = Regex::new(r#""([a-z0-9-]+):(\d+)""#)?;
    let metrics: BTreeSet<(&str, &str)> = services
        .iter()
        .filter_map(|(name, service)| Some((*name, service.variables.get("OPERATIONS_PORT")?.as_str())))
        .collect();
    let targets: Vec<(&str, &str)> = target
        .captures_iter(prometheus)
        .filter_map(|target| Some((target.get(1)?.as_str(), target.get(2)?.as_str())))
        .collect();
    let unknown = targets.iter().filter(|target| !metrics.contains(target));
    let unknown = unknown.map(|(name, port)| format!("prometheus.yml: {name} has no metrics at {port}"));
    let unseen = metrics.iter().filter(|metrics| !targets.contains(metrics));
    Ok(unknown.chain(unseen.map(|(name, _)| format!("prometheus.yml lacks {name}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPOSE: &str = r#"
x-environment: &environment
  TTL: 1
  CALLS: http://scorer:8080
  TRACES: http://jaeger:4318/v1/traces
x-emulated: &emulated
  environment:
    <<: *environment
    OPERATIONS_PORT: 9091
services:
  kafka:
    image: ${KAFKA_IMAGE}
    environment:
      KAFKA_ANY: 1
    ports: ["127.0.0.1:${KAFKA_PORT:-9092}:9092"]
  jaeger:
    image: ${KAFKA_IMAGE}
    expose: ["4317", "4318"]
  # The first.
  processor:
    <<: *emulated
    image: forebay/processor:${FOREBAY_TAG}
  scorer:
    image: forebay/scorer:${FOREBAY_TAG}
    environment:
      <<: *environment
      PORT: 8080
      OPERATIONS_PORT: 9091
  esm:
    image: forebay/esm:${FOREBAY_TAG}
    environment:
      URLS: "processor=http://processor:8080/2015-03-31/functions/function/invocations,\
        scorer=http://scorer:8080/2015-03-31/functions/scorer/invocations"
"#;
    const IMAGES: &str = "# All.\nKAFKA_IMAGE=apache/kafka:4.1.0\nBASE_IMAGE=debian:12.12-slim\nFOREBAY_TAG=local\n";

    fn found(change: (&str, &str)) -> Vec<String> {
        let [compose, images, example, prometheus, dockerfile, options] = [
            COMPOSE,
            IMAGES,
            "KAFKA_PORT=9092\n",
            r#"targets: ["scorer:9091", "processor:9091"]"#,
            "ARG BASE_IMAGE\nARG X=1\nARG PROGRAM\n",
            r#"port("KAFKA_PORT", "Kafka", 9092)"#,
        ]
        .map(|text| text.replace(change.0, change.1));
        let read = ["TTL", "CALLS", "TRACES", "PORT", "OPERATIONS_PORT", "URLS"].map(str::to_owned);
        let containers = Containers {
            compose: &compose,
            dockerfile: &dockerfile,
            images: &images,
            example: &example,
            prometheus: &prometheus,
            stack_options: &options,
            functions: &["processor", "scorer"].map(str::to_owned).into(),
            read: &read.into(),
        };
        mistakes(&containers).unwrap()
    }

    #[test]
    fn files_that_agree_pass() {
        assert_eq!(found(("", "")), Vec::<String>::new());
    }

    #[test]
    fn each_disagreement_is_found() {
        let table = [
            (("BASE_IMAGE=debian:12.12-slim", "BASE_IMAGE=debian"), "images.env: BASE_IMAGE=debian has no exact tag"),
            (
                ("BASE_IMAGE=debian:12.12-slim", "BASE_IMAGE=debian:latest"),
                "images.env: BASE_IMAGE=debian:latest has no exact tag",
            ),
            (
                ("=debian:12.12-slim", "=a.example/debian:12.12-slim"),
                "images.env: BASE_IMAGE=a.example/debian:12.12-slim names a registry",
            ),
            (("ARG BASE_IMAGE", "ARG BASIC_IMAGE"), "the Dockerfile takes BASIC_IMAGE, which images.env lacks"),
            (("FOREBAY_TAG=", "OTHER_TAG="), "compose.yaml: images.env lacks FOREBAY_TAG"),
            (("TTL: 1", "TTLS: 1"), "compose.yaml gives scorer TTLS, which nobody reads"),
            (("KAFKA_PORT=9092", "KAFKA_PORT=9093"), "compose.yaml: .env.example lacks KAFKA_PORT=9092"),
            (("\"Kafka\", 9092", "\"Kafka\", 9094"), ".env.example lacks KAFKA_PORT=9094, the port of `make run`"),
            (("KAFKA_PORT=9092\n", "KAFKA_PORT=9092\nB=1\n"), ".env.example names B, which compose.yaml does not use"),
            (("http://scorer:8080\n", "http://scorer:8081\n"), "compose.yaml: nobody listens at http://scorer:8081"),
            (("\"4318\"", "\"4319\""), "compose.yaml: nobody listens at http://jaeger:4318/v1/traces"),
            (
                ("/function/invocations", "/processor/invocations"),
                "compose.yaml: http://processor:8080/2015-03-31/functions/processor/invocations is not the path of its \
                 function",
            ),
            (("image: forebay/scorer:", "image: forebay/score:"), "compose.yaml does not run the function scorer"),
            (
                ("image: ${KAFKA_IMAGE}", "image: kafka"),
                "compose.yaml: kafka has the image \"kafka\", which is neither ours nor in images.env",
            ),
            (("scorer:9091", "scorer:9092"), "prometheus.yml: scorer has no metrics at 9092"),
            (("\"scorer:9091\"", ""), "prometheus.yml lacks scorer"),
        ];
        for (change, expected) in table {
            let found = found(change);
            assert!(found.iter().any(|mistake| mistake == expected), "{change:?} gives {found:?}");
        }
    }
}
