//! Where a new secret goes: to the screen, or into a file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub struct KeptSecret {
    /// Write the secret to this new file, which only you can read, instead of showing it.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// The file, if there is one. It is made before the secret is: one that could not be written would be lost.
pub(crate) struct SecretFile<'a>(Option<(&'a PathBuf, File)>);

impl KeptSecret {
    /// # Errors
    /// If the file cannot be made, or exists.
    pub(crate) fn file(&self) -> anyhow::Result<SecretFile<'_>> {
        let Some(path) = &self.to else { return Ok(SecretFile(None)) };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(SecretFile(Some((path, file))))
    }
}

impl SecretFile<'_> {
    /// Writes the secret of an answer, and leaves where it is in its place.
    ///
    /// # Errors
    /// If it is no text, or cannot be written.
    pub(crate) fn take(self, secret: &mut Value) -> anyhow::Result<()> {
        let SecretFile(Some((path, mut file))) = self else { return Ok(()) };
        let text = secret.as_str().context("the maintainer's answer has no secret")?;
        writeln!(file, "{text}").with_context(|| format!("cannot write {}", path.display()))?;
        *secret = json!(format!("in {}", path.display()));
        Ok(())
    }
}
