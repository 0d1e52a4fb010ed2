//! The sample invocations under `events/`, which unit tests, `make invoke` and people use.

use std::path::Path;

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
