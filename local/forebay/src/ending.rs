//! How a command ends.

use crate::output::OutputError;

/// Why a command ended, as its exit status says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    Failed,
    WrongUse,
    Refused,
    NotAllowed,
    Interrupted,
}

/// Stands at the end of every help.
pub const EXIT_STATUS: &str = "\
Exit status:
  0    done
  1    failed: no answer, or an error on the other side
  2    wrong use: an argument, a setting or the input is not what the command takes
  3    refused: the other side does not accept it, or does not accept all of it
  4    not allowed: the API key or the AWS credentials are missing or refused
  130  interrupted
  141  nobody reads the output any more";

impl Ending {
    pub const fn code(self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::Failed => 1,
            Ending::WrongUse => 2,
            Ending::Refused => 3,
            Ending::NotAllowed => 4,
            Ending::Interrupted => 130,
        }
    }

    /// How a command ended that has this error.
    pub fn of(error: &anyhow::Error) -> Self {
        error.downcast_ref::<Stop>().map_or(Ending::Failed, |stop| stop.ending)
    }
}

/// An error that is more than a failure.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Stop {
    ending: Ending,
    text: String,
}

impl Stop {
    pub fn with(ending: Ending, text: impl Into<String>) -> anyhow::Error {
        Stop { ending, text: text.into() }.into()
    }

    pub fn wrong_use(text: impl Into<String>) -> anyhow::Error {
        Stop::with(Ending::WrongUse, text)
    }
}

/// The exit status for an error.
pub fn status_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<OutputError>() {
        Some(OutputError::Closed) => OutputError::CLOSED_STATUS,
        Some(OutputError::Failed(_)) | None => Ending::of(error).code(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn every_ending_is_in_the_help_with_its_status() {
        use Ending::{Done, Failed, Interrupted, NotAllowed, Refused, WrongUse};
        let named: Vec<&str> = EXIT_STATUS.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        let endings = [Done, Failed, WrongUse, Refused, NotAllowed, Interrupted];
        let mut codes: Vec<String> = endings.map(|ending| ending.code().to_string()).to_vec();
        codes.push(OutputError::CLOSED_STATUS.to_string());
        assert_eq!(named, codes);
    }

    #[test]
    fn an_error_keeps_its_ending_under_more_words() {
        let refused = Err::<(), _>(Stop::with(Ending::Refused, "no such key")).context("rotating").unwrap_err();
        assert_eq!(status_of(&refused), 3);
        assert_eq!(status_of(&anyhow::anyhow!("no answer")), 1);
        assert_eq!(status_of(&OutputError::Closed.into()), 141);
    }
}
