//! What one instance of the scorer has: its rules.

use crate::config::Config;
use crate::rules::{Rules, RulesError};

#[derive(Debug)]
pub struct App {
    pub(crate) rules: Rules,
}

impl App {
    /// Compiles the rules that this build ships.
    ///
    /// # Errors
    /// If the rules cannot be used, which is an error in the build.
    pub fn new(_: Config) -> Result<Self, RulesError> {
        let rules = Rules::shipped()?;
        tracing::info!(rules.version = rules.version(), "scoring rules loaded");
        Ok(App { rules })
    }
}
