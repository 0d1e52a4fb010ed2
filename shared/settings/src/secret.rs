//! Secrets, and where each can be read again.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{SecretString, zeroize::Zeroize as _};

/// Where a secret comes from. A program that connects for a long time keeps this instead of the value, because the
/// value changes when it is rotated. [`Settings::secret_source`](crate::Settings::secret_source) makes it.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// The variable itself, which does not change while the process runs.
    Value(SecretString),
    /// `<NAME>_FILE`.
    File(SecretFile),
    /// `<NAME>_SECRET_ARN`.
    SecretsManager(SecretArn),
}

/// A file that holds a secret, as Kubernetes mounts one and replaces it when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile(pub PathBuf);

/// A secret could not be read from its file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is empty", path.display())]
    Empty { path: PathBuf },
}

impl SecretFile {
    /// The secret as it is now. Line breaks at the end of the file are not part of it: editors and `echo` add one, and
    /// a password cannot end with one.
    ///
    /// Reads on the caller's thread; the file is small and on a local disk or in memory.
    ///
    /// # Errors
    /// If the file cannot be read, is not UTF-8, or is empty.
    pub fn read(&self) -> Result<SecretString, SecretFileError> {
        let path = || self.0.clone();
        let mut text =
            std::fs::read_to_string(&self.0).map_err(|source| SecretFileError::Unreadable { path: path(), source })?;
        let secret = text.trim_end_matches(['\r', '\n']);
        let read = if secret.is_empty() { Err(SecretFileError::Empty { path: path() }) } else { Ok(secret.into()) };
        text.zeroize();
        read
    }
}

/// A secret of AWS Secrets Manager: its ARN, or `ARN:MEMBER` if the secret is a JSON object and one member is wanted,
/// as in the task definitions of Amazon ECS ("Pass sensitive data to an Amazon ECS container").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretArn {
    pub arn: String,
    pub region: String,
    pub member: Option<String>,
}

/// A text that is no ARN of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, with :MEMBER for one member of a JSON object")]
pub struct NotASecretArn;

impl FromStr for SecretArn {
    type Err = NotASecretArn;

    fn from_str(text: &str) -> Result<Self, NotASecretArn> {
        let parts: Vec<&str> = text.split(':').collect();
        let (name, member) = match parts.as_slice() {
            [.., name] if parts.len() == 7 => (name, None),
            [.., name, member] if parts.len() == 8 => (name, Some(member)),
            _ => return Err(NotASecretArn),
        };
        let ["arn", partition, "secretsmanager", region, account, "secret", ..] = parts[..] else {
            return Err(NotASecretArn);
        };
        if [partition, region, account, name, member.unwrap_or(name)].iter().any(|part| part.is_empty()) {
            return Err(NotASecretArn);
        }
        Ok(SecretArn {
            arn: parts.get(..7).unwrap_or(&parts).join(":"),
            region: region.to_owned(),
            member: member.map(|member| (*member).to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret as _;

    use crate::{SecretArn, SecretSource, Settings};

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:AmazonMSK_forebay-AbCdEf";

    #[test]
    fn a_file_is_read_again_and_its_line_break_is_not_part_of_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        std::fs::write(path, "before\n").unwrap();
        let variables = BTreeMap::from([("PASSWORD_FILE", path)]);
        let mut settings = Settings::new(&variables);
        let Some(SecretSource::File(source)) = settings.secret_source("PASSWORD") else { panic!("no file") };
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
            ("ALSO_FILE", path),
            ("ALSO_SECRET_ARN", ARN),
            ("WRONG_SECRET_ARN", "s3cret"),
        ]);
        let mut settings = Settings::new(&variables);
        for name in ["MISSING", "EMPTY", "BOTH", "ALSO", "WRONG"] {
            assert!(settings.secret_source(name).is_none(), "{name}");
        }
        let problems = settings.build(Some(())).unwrap_err().problems;
        let expected = [
            "MISSING_FILE: cannot read /nowhere/at/all: No such file or directory".to_owned(),
            format!("EMPTY_FILE: {path} is empty"),
            "only one of BOTH, BOTH_FILE, BOTH_SECRET_ARN may be set".to_owned(),
            "only one of ALSO, ALSO_FILE, ALSO_SECRET_ARN may be set".to_owned(),
            "WRONG_SECRET_ARN: must be arn:aws:secretsmanager:".to_owned(),
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(&expected) && !problem.contains("s3cret"), "{problem}");
        }
    }

    #[test]
    fn a_secret_of_secrets_manager_may_be_one_member_of_it() {
        let expected = |member: Option<&str>| SecretArn {
            arn: ARN.into(),
            region: "eu-west-1".into(),
            member: member.map(Into::into),
        };
        assert_eq!(ARN.parse(), Ok(expected(None)));
        assert_eq!(format!("{ARN}:password").parse(), Ok(expected(Some("password"))));
        for text in [
            "",
            "AmazonMSK_forebay",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
            "arn:aws:secretsmanager::123456789012:secret:name",
            "arn:aws:s3:eu-west-1:123456789012:secret:name",
            &format!("{ARN}:"),
            &format!("{ARN}:password:AWSPREVIOUS"),
        ] {
            assert!(text.parse::<SecretArn>().is_err(), "{text}");
        }
    }
}
