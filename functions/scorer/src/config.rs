//! The scorer's settings: it has none of its own. Its rules are part of the build.

use settings::{Settings, SettingsError, Variables};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config;

impl Config {
    /// # Errors
    /// None at present; the shape is that of every function.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        Settings::new(variables).build(Some(Config))
    }
}
