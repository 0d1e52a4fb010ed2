//! The OpenAPI document of the HTTP interfaces, and the page made of it.
//!
//! Behind API Gateway ingest and query have one address, so there is one document. Each function describes its own operations
//! (`openapi.rs`); this crate, which may import both, puts them together, adds the samples of `events/` as examples, and
//! writes `docs/openapi.json` and `docs/api.md`.

pub mod document;
mod examples;
pub mod page;

use std::path::{Path, PathBuf};

/// A file of this repository.
pub fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The files that are made, with what they must have in them.
///
/// # Errors
/// If a sample is missing, or is no sample.
pub fn made_files() -> anyhow::Result<[(&'static str, String); 2]> {
    let document = document::document()?;
    let text = format!("{}\n", serde_json::to_string_pretty(&document)?);
    Ok([("docs/openapi.json", text), ("docs/api.md", page::page(&document))])
}
