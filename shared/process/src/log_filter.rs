//! Which spans and log lines are written.

/// The crates of this repository. `LOG_LEVEL=info` is about them: the Kafka client, for one, has a span at level `info` for
/// every record, and formatting it costs more than all the rest of the work on that record.
const OURS: [&str; 35] = [
    "access",
    "aggregator",
    "api_keys",
    "archive",
    "archiver",
    "aws",
    "chaos",
    "checks",
    "dynamodb",
    "esm",
    "event",
    "host",
    "ingest",
    "invoke",
    "kafka",
    "lambda",
    "maintainer",
    "notifier",
    "pipeline",
    "postgres",
    "process",
    "processor",
    "query",
    "redriver",
    "replayer",
    "rescorer",
    "scorer",
    "scoring",
    "services",
    "settings",
    "statistics",
    "telemetry",
    "tls",
    "traces",
    "webhooks",
];

/// The default of `LOG_LEVEL`.
pub(crate) const DEFAULT: &str = "info";
/// What libraries may write unless they are named: warnings and errors.
const LIBRARIES: &str = "warn";

/// One span for each invocation, which puts the request id on every line of it.
const RUNTIME: &str = "lambda_runtime=info";

/// Directives for `EnvFilter` from the value of `LOG_LEVEL`: a level, which is that of our own crates, and any number of
/// `target=level` behind it, by commas. A library writes warnings and errors only, whatever the level, unless such a
/// directive names it.
pub(crate) fn directives(log_level: &str) -> String {
    let (named, levels): (Vec<&str>, Vec<&str>) =
        log_level.split(',').map(str::trim).filter(|part| !part.is_empty()).partition(|part| part.contains(['=', '[']));
    let level = levels.last().copied().unwrap_or(DEFAULT);
    let quiet = ["off", "error"].into_iter().find(|quiet| level.eq_ignore_ascii_case(quiet));
    let libraries = quiet.unwrap_or(LIBRARIES);
    let mut directives = vec![libraries.to_owned()];
    // A target is matched by how it begins: `aws` alone would also mean the SDK's `aws_smithy_runtime`.
    directives.extend(OURS.iter().flat_map(|ours| [format!("{ours}={level}"), format!("{ours}_={libraries}")]));
    directives.push(RUNTIME.to_owned());
    directives.extend(named.into_iter().map(str::to_owned));
    directives.join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use tracing::Level;
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Whether spans of the Kafka client, its debug lines, and our own spans at `info` and `debug` are made.
    fn enabled(log_level: &str) -> [bool; 4] {
        let filter = EnvFilter::try_new(directives(log_level)).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter), || {
            [
                !tracing::info_span!(target: "krafka::producer", "publish").is_disabled(),
                tracing::enabled!(target: "aws_smithy_runtime", Level::DEBUG),
                !tracing::info_span!(target: "processor::app", "batch").is_disabled(),
                tracing::enabled!(target: "kafka::client", Level::DEBUG),
            ]
        })
    }

    #[test]
    fn a_level_is_about_our_own_crates() {
        assert_eq!(enabled(""), [false, false, true, false]);
        assert_eq!(enabled("info"), [false, false, true, false]);
        assert_eq!(enabled("debug"), [false, false, true, true]);
        assert_eq!(enabled("trace"), [false, false, true, true]);
        assert_eq!(enabled("warn"), [false, false, false, false]);
    }

    #[test]
    fn a_library_that_is_named_is_heard() {
        assert_eq!(enabled("info,krafka=info"), [true, false, true, false]);
        assert_eq!(enabled("krafka=debug"), [true, false, true, false]);
        assert_eq!(enabled("warn, aws_smithy_runtime=debug"), [false, true, false, false]);
    }

    #[test]
    fn errors_alone_are_errors_alone_for_libraries_too() {
        assert!(directives("error").starts_with("error,"));
        assert!(directives("OFF").starts_with("off,"));
    }

    /// Targets are matched by how they begin, up to an underscore: see [`directives`].
    #[test]
    fn no_library_is_taken_for_ours() {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        for name in names.map(|name| name.replace('-', "_")).filter(|name| !OURS.contains(&name.as_str())) {
            let ours = OURS.iter().find(|ours| name.starts_with(*ours) && !name.starts_with(&format!("{ours}_")));
            assert_eq!(ours, None, "{name} would log as if it were ours");
        }
    }

    #[test]
    fn every_crate_of_the_repository_is_ours() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let crates: BTreeSet<String> = ["functions", "shared", "local"]
            .iter()
            .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("Cargo.toml").exists())
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        // Only linked by tests and tools that write no logs of their own.
        let silent = ["bench", "contract", "forebay", "stack", "testkit"].map(str::to_owned);
        let expected: BTreeSet<String> = crates.into_iter().filter(|name| !silent.contains(name)).collect();
        assert_eq!(OURS.map(str::to_owned).into_iter().collect::<BTreeSet<_>>(), expected);
    }
}
