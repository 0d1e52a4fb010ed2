//! The sample invocations under `events/`, which unit tests, `make invoke` and people use.

use std::path::Path;

/// The cases of a function over HTTP that are one request through each kind of trigger, stage and domain.
pub const HTTP_TRIGGERS: [&str; 7] = [
    "rest-api-stage",
    "rest-api-custom-domain",
    "http-api-stage",
    "http-api-custom-domain",
    "http-api-format-1",
    "function-url",
    "load-balancer",
];

/// The text of `events/<function>/<case>.json`.
///
/// # Panics
/// If the file does not exist, because samples are part of the source.
#[expect(clippy::panic, reason = "a test helper: a missing sample means a broken checkout")]
pub fn sample(function: &str, case: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(function).join(format!("{case}.json"));
    match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
