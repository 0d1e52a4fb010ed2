//! Settings from environment variables, read once at cold start.
//!
//! All bad variables are reported together, so that an operator can correct them all at once. If a required variable is
//! missing, the process does not start.

mod secret;
pub mod shared;

pub use secret::{NotASecretArn, SecretArn, SecretFile, SecretFileError, SecretSource};

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Mutex;

use secrecy::SecretString;
use strum::VariantNames;

/// The source of settings; tests pass a map.
pub trait Variables: Send + Sync {
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Variables for ProcessEnvironment {
    #[expect(clippy::disallowed_methods, reason = "all other code reads the environment through this type")]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Variables for BTreeMap<&str, &str> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).map(|value| (*value).to_owned())
    }
}

/// Remembers which variables were read, so that a test can compare them with a README.
#[derive(Debug, Default)]
pub struct Recording<V> {
    inner: V,
    names: Mutex<Vec<String>>,
}

impl<V: Variables> Recording<V> {
    pub fn new(inner: V) -> Self {
        Recording { inner, names: Mutex::new(Vec::new()) }
    }

    /// The names that were read so far, sorted, each once.
    pub fn names(&self) -> Vec<String> {
        let mut names = match self.names.lock() {
            Ok(names) => names.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        };
        names.sort();
        names.dedup();
        names
    }
}

impl<V: Variables> Variables for Recording<V> {
    fn get(&self, name: &str) -> Option<String> {
        if let Ok(mut names) = self.names.lock() {
            names.push(name.to_owned());
        }
        self.inner.get(name)
    }
}

/// Every variable that was missing or malformed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    pub problems: Vec<String>,
}

impl Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings cannot be used: {}", self.problems.join("; "))
    }
}

/// Reads variables and collects what is wrong with them. An empty variable counts as absent.
pub struct Settings<'a> {
    variables: &'a dyn Variables,
    problems: Vec<String>,
}

impl<'a> Settings<'a> {
    pub fn new(variables: &'a dyn Variables) -> Self {
        Settings { variables, problems: Vec::new() }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.variables.get(name).filter(|value| !value.is_empty())
    }

    /// The parsed value, or `None` if the variable is absent. A malformed value is a problem.
    pub fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(format!("{name}={text:?}: {error}"));
                None
            }
        }
    }

    /// Like [`Settings::optional`], but a missing variable is a problem too.
    pub fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        if self.text(name).is_none() {
            self.problem(format!("{name} is not set"));
        }
        self.optional(name)
    }

    pub fn or<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> T {
        self.optional(name).unwrap_or(default)
    }

    /// One of a fixed set of names; absent means the default. Any other name is a problem that lists the set.
    pub fn choice<T: FromStr + VariantNames>(&mut self, name: &str, default: T) -> T {
        self.optional_choice(name).unwrap_or(default)
    }

    /// One of a fixed set of names, or `None` if the variable is absent. Any other name is a problem that lists the
    /// set.
    pub fn optional_choice<T: FromStr + VariantNames>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        self.chosen(name, &text)
    }

    /// Comma-separated names of a fixed set; absent means none.
    pub fn choices<T: FromStr + VariantNames>(&mut self, name: &str) -> Vec<T> {
        let texts: Vec<String> = self.list(name);
        texts.iter().filter_map(|text| self.chosen(name, text)).collect()
    }

    fn chosen<T: FromStr + VariantNames>(&mut self, name: &str, text: &str) -> Option<T> {
        let chosen = text.parse().ok();
        if chosen.is_none() {
            self.problem(format!("{name}={text:?}: must be one of {}", T::VARIANTS.join(", ")));
        }
        chosen
    }

    /// A value that is never shown, not even in an error: the variable, or the content of the file that `<name>_FILE`
    /// names. For a secret that is needed again later, use [`Settings::secret_source`].
    pub fn secret(&mut self, name: &str) -> Option<SecretString> {
        match (self.text(name), self.secret_file(name)) {
            (Some(_), Some(_)) => {
                self.problem(format!("only one of {name}, {name}_FILE may be set"));
                None
            }
            (Some(value), None) => Some(value.into()),
            (None, file) => file.and_then(|file| self.secret_in(name, &file)),
        }
    }

    /// Like [`Settings::secret`], but the secret can be read again after it was rotated, and may be in Secrets Manager
    /// (`<name>_SECRET_ARN`). A file was readable just now; Secrets Manager is not asked here.
    pub fn secret_source(&mut self, name: &str) -> Option<SecretSource> {
        let arn_name = format!("{name}_SECRET_ARN");
        match (self.text(name), self.secret_file(name), self.text(&arn_name)) {
            (None, None, None) => None,
            (Some(value), None, None) => Some(SecretSource::Value(value.into())),
            (None, Some(file), None) => self.secret_in(name, &file).map(|_| SecretSource::File(file)),
            // Not with its value, as `optional` would: a secret may have been put there by mistake.
            (None, None, Some(arn)) => match arn.parse() {
                Ok(arn) => Some(SecretSource::SecretsManager(arn)),
                Err(error) => {
                    self.problem(format!("{arn_name}: {error}"));
                    None
                }
            },
            _ => {
                self.problem(format!("only one of {name}, {name}_FILE, {arn_name} may be set"));
                None
            }
        }
    }

    fn secret_file(&self, name: &str) -> Option<SecretFile> {
        self.text(&format!("{name}_FILE")).map(|path| SecretFile(path.into()))
    }

    fn secret_in(&mut self, name: &str, file: &SecretFile) -> Option<SecretString> {
        match file.read() {
            Ok(secret) => Some(secret),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                self.problem(format!("{name}_FILE: {error}{cause}"));
                None
            }
        }
    }

    /// A comma-separated list; absent means empty.
    pub fn list<T: FromStr<Err: Display>>(&mut self, name: &str) -> Vec<T> {
        let Some(text) = self.text(name) else { return Vec::new() };
        let mut values = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match item.parse() {
                Ok(value) => values.push(value),
                Err(error) => self.problem(format!("{name} has {item:?}: {error}")),
            }
        }
        values
    }

    /// Records a problem that concerns several variables.
    pub fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// The configuration, unless there was a problem. `config` is `None` only after a problem was recorded.
    pub fn build<T>(self, config: Option<T>) -> Result<T, SettingsError> {
        match config {
            Some(config) if self.problems.is_empty() => Ok(config),
            Some(_) | None => Err(SettingsError { problems: self.problems }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_every_problem_at_once() {
        let variables = BTreeMap::from([("PORT", "http"), ("TTL", "5"), ("NETS", "1, x")]);
        let mut settings = Settings::new(&variables);
        let port = settings.required::<u16>("PORT");
        let brokers = settings.required::<String>("KAFKA_BROKERS");
        assert_eq!(settings.or("TTL", 1_u32), 5);
        assert_eq!(settings.list::<u8>("NETS"), [1]);
        let error = settings.build(port.zip(brokers)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the settings cannot be used: PORT=\"http\": invalid digit found in string; KAFKA_BROKERS is not set; \
             NETS has \"x\": invalid digit found in string"
        );
    }

    #[test]
    fn a_name_outside_of_its_set_is_a_problem_that_lists_the_set() {
        #[derive(Debug, PartialEq, strum::EnumString, VariantNames)]
        #[strum(serialize_all = "lowercase")]
        enum Colour {
            Red,
            Blue,
        }
        let variables =
            BTreeMap::from([("ONE", "blue"), ("SOME", "red, blue"), ("BAD", "green"), ("MIXED", "red,green")]);
        let mut settings = Settings::new(&variables);
        assert_eq!(settings.choice("ONE", Colour::Red), Colour::Blue);
        assert_eq!(settings.choice("ABSENT", Colour::Red), Colour::Red);
        assert_eq!(settings.choices::<Colour>("SOME"), [Colour::Red, Colour::Blue]);
        assert_eq!(settings.choices::<Colour>("ABSENT"), []);
        settings.choice("BAD", Colour::Red);
        settings.choices::<Colour>("MIXED");
        let expected = |name| format!("{name}=\"green\": must be one of red, blue");
        assert_eq!(settings.problems, [expected("BAD"), expected("MIXED")]);
    }

    #[test]
    fn an_empty_variable_is_absent() {
        let variables = BTreeMap::from([("PORT", "")]);
        assert_eq!(Settings::new(&variables).or("PORT", 7_u16), 7);
    }
}
