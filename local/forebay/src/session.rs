//! The file in which later commands find a running stack: lines of `NAME=value` under `target/`, which a shell can read
//! too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use settings::{ProcessEnvironment, Variables};

/// Relative to the project's folder.
const FILE: &str = "target/stack.env";

/// Settings of the running stack. Variables of the environment take precedence, so that the same commands work on a
/// real deployment.
#[derive(Clone, Debug, Default)]
pub struct Session {
    values: BTreeMap<String, String>,
}

impl Variables for Session {
    fn get(&self, name: &str) -> Option<String> {
        ProcessEnvironment.get(name).or_else(|| self.values.get(name).cloned())
    }
}

impl Session {
    pub fn new(values: impl IntoIterator<Item = (String, String)>) -> Self {
        Session { values: values.into_iter().collect() }
    }

    /// The settings, as the functions get them.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.values.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Reads what a running stack wrote; empty if no stack runs.
    ///
    /// # Errors
    /// If the file exists but cannot be read.
    pub fn read() -> anyhow::Result<Self> {
        let path = Path::new(FILE);
        if !path.exists() {
            return Ok(Session::default());
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {FILE}"))?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(Session::new(pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))))
    }

    /// Writes the file. It is removed when the returned value is dropped.
    ///
    /// # Errors
    /// If `target/` cannot be written.
    pub fn publish(&self) -> anyhow::Result<PublishedSession> {
        let text: String = self.values.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
        let path = PathBuf::from(FILE);
        std::fs::create_dir_all("target").and_then(|()| std::fs::write(&path, text)).context("cannot write target/")?;
        Ok(PublishedSession { path })
    }

    /// # Errors
    /// If the variable is not set; the error says how to set it.
    pub fn require(&self, name: &str) -> anyhow::Result<String> {
        self.get(name).with_context(|| format!("{name} is not set and no stack runs here: start one with `make run`"))
    }

    /// AWS configuration for the service with that endpoint variable, or for AWS itself if the variable is not set.
    pub async fn aws(&self, endpoint_variable: &str) -> SdkConfig {
        let mut loader = aws::loader();
        if let Some(endpoint) = self.get(endpoint_variable) {
            loader = loader.endpoint_url(endpoint);
        }
        if let (Some(key), Some(secret)) = (self.get("AWS_ACCESS_KEY_ID"), self.get("AWS_SECRET_ACCESS_KEY")) {
            let credentials = Credentials::new(key, secret, self.get("AWS_SESSION_TOKEN"), None, "session");
            loader = loader.credentials_provider(credentials);
        }
        if let Some(region) = self.get("AWS_REGION") {
            loader = loader.region(aws_config::Region::new(region));
        }
        loader.load().await
    }
}

/// Removes the file when the stack ends.
#[derive(Debug)]
pub struct PublishedSession {
    path: PathBuf,
}

impl Drop for PublishedSession {
    fn drop(&mut self) {
        // The file may have been removed already, which does not matter.
        let _ = std::fs::remove_file(&self.path);
    }
}
