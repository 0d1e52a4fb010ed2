//! Secrets, and where each can be read again.

use std::io;
use std::path::PathBuf;

use secrecy::{SecretString, zeroize::Zeroize as _};

/// Where a secret comes from. A program that connects for a long time keeps this instead of the value, because the
/// value changes when it is rotated.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// The variable itself, which does not change while the process runs.
    Value(SecretString),
    /// `<NAME>_FILE`: a file, as Kubernetes mounts a secret and replaces it when the secret changes.
    File(PathBuf),
}

/// A secret could not be read from its file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is empty", path.display())]
    Empty { path: PathBuf },
}

impl SecretSource {
    /// The secret as it is now. Line breaks at the end of a file are not part of it: editors and `echo` add one, and a
    /// password cannot end with one.
    ///
    /// Reads a file on the caller's thread; it is small and on a local disk or in memory.
    ///
    /// # Errors
    /// If the file cannot be read, is not UTF-8, or is empty.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            SecretSource::Value(value) => Ok(value.clone()),
            SecretSource::File(path) => {
                let mut text = std::fs::read_to_string(path)
                    .map_err(|source| SecretError::Unreadable { path: path.clone(), source })?;
                let secret = SecretString::from(text.trim_end_matches(['\r', '\n']));
                let is_empty = text.trim_end_matches(['\r', '\n']).is_empty();
                text.zeroize();
                if is_empty { Err(SecretError::Empty { path: path.clone() }) } else { Ok(secret) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::Settings;

    #[test]
    fn a_file_is_read_again_and_its_line_break_is_not_part_of_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        std::fs::write(path, "before\n").unwrap();
        let variables = BTreeMap::from([("PASSWORD_FILE", path)]);
        let mut settings = Settings::new(&variables);
        let source = settings.secret_source("PASSWORD").unwrap();
        assert_eq!(settings.secret("PASSWORD").unwrap().expose_secret(), "before");
        std::fs::write(path, "after it \r\n").unwrap();
        assert_eq!(source.read().unwrap().expose_secret(), "after it ");
        settings.build(Some(())).unwrap();
    }

    #[test]
    fn a_variable_alone_is_the_secret_as_it_stands() {
        let variables = BTreeMap::from([("PASSWORD", " s3cret\n"), ("PASSWORD_FILE", "")]);
        let mut settings = Settings::new(&variables);
        assert_eq!(settings.secret("PASSWORD").unwrap().expose_secret(), " s3cret\n");
        assert!(settings.secret("OTHER").is_none());
        settings.build(Some(())).unwrap();
    }

    #[test]
    fn what_is_wrong_is_a_problem_that_names_the_variable_and_never_shows_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        std::fs::write(path, "\n").unwrap();
        let variables = BTreeMap::from([
            ("MISSING_FILE", "/nowhere/at/all"),
            ("EMPTY_FILE", path),
            ("BOTH", "s3cret"),
            ("BOTH_FILE", path),
        ]);
        let mut settings = Settings::new(&variables);
        for name in ["MISSING", "EMPTY", "BOTH"] {
            assert!(settings.secret(name).is_none(), "{name}");
        }
        let problems = settings.build(Some(())).unwrap_err().problems;
        let expected = [
            "MISSING_FILE: cannot read /nowhere/at/all: No such file or directory".to_owned(),
            format!("EMPTY_FILE: {path} is empty"),
            "BOTH and BOTH_FILE are both set; set only one".to_owned(),
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(&expected), "{problem}");
        }
    }
}
