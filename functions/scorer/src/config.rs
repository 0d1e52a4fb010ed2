//! The scorer has no settings of its own. Its rules are part of the build.

use settings::{Settings, SettingsError, Variables};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config;

impl Config {
    /// # Errors
    /// None at present; every function has the same signature.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        Settings::new(variables).build(Some(Config))
    }
}
