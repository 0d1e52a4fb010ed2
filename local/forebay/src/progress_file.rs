//! What is remembered of a file that is being sent, so that the next run goes on where this one ended.
//!
//! It stands beside the input. It is written after each batch that was answered, so after a crash at most one batch is sent
//! again, with the same ids.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ending::Stop;
use crate::lines::LinePosition;
use crate::records::InputReading;

/// By how much of its start a file is recognised.
const START_BYTES: u64 = 65_536;

/// By what a file is recognised although more was written to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStart {
    bytes: u64,
    pub sha256: String,
}

impl FileStart {
    /// The hash of the first `bytes`, or of as many as there are.
    fn read(file: &mut File, bytes: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let mut start = Vec::new();
        file.take(bytes).read_to_end(&mut start)?;
        let digest = Sha256::digest(&start);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(FileStart { bytes: start.len() as u64, sha256 })
    }
}

/// How far a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendProgress {
    /// As it was when sending began: it is a part of the events' ids.
    pub start: FileStart,
    pub reading: InputReading,
    /// Bytes of the input that are dealt with.
    pub offset: u64,
    /// Lines of the input that are dealt with.
    pub lines: u64,
    pub accepted: u64,
    pub refused: u64,
    /// Length of the file of refused lines.
    pub refused_bytes: u64,
    /// Events that were sent more than once, because no answer came.
    pub sent_again: u64,
}

impl SendProgress {
    fn new(start: FileStart, reading: InputReading) -> Self {
        SendProgress { start, reading, offset: 0, lines: 0, accepted: 0, refused: 0, refused_bytes: 0, sent_again: 0 }
    }

    pub fn position(&self) -> LinePosition {
        LinePosition { offset: self.offset, lines: self.lines }
    }

    /// Where to begin: at the start, or where the run before ended.
    ///
    /// # Errors
    /// If the file is not the one that was being sent, or is to be read in another way.
    pub fn resume(
        before: Option<SendProgress>,
        start: FileStart,
        length: u64,
        reading: InputReading,
        restart: bool,
    ) -> anyhow::Result<Self> {
        let Some(before) = before else { return Ok(SendProgress::new(start, reading)) };
        let is_same = before.start == start;
        if restart {
            // The same ids as before, if it is the same file: what was sent then is a duplicate now.
            return Ok(SendProgress::new(if is_same { before.start } else { start }, reading));
        }
        if !is_same || length < before.offset {
            return Err(Stop::wrong_use(
                "the file is not the one of which a part was sent: its start is another, or it is shorter; \
                 --restart sends it from its start",
            ));
        }
        if before.reading != reading {
            return Err(Stop::wrong_use(
                "a part of the file was sent with another --format, --type or --numbers: give the same, or send it \
                 from its start with --restart",
            ));
        }
        Ok(before)
    }
}

/// The files beside an input.
#[derive(Clone, Debug)]
pub struct BesideInput {
    pub progress: PathBuf,
    pub refused: PathBuf,
}

impl BesideInput {
    pub fn of(input: &Path) -> Self {
        let beside = |ending: &str| {
            let mut name = input.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        BesideInput { progress: beside(".progress.json"), refused: beside(".refused.ndjson") }
    }

    /// The progress to go on from; see [`SendProgress::resume`].
    ///
    /// # Errors
    /// As there, and if a file cannot be read.
    pub fn open(&self, file: &mut File, reading: InputReading, restart: bool) -> anyhow::Result<SendProgress> {
        let before: Option<SendProgress> = match std::fs::read(&self.progress) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|error| {
                let file = self.progress.display();
                Stop::wrong_use(format!("{file} is not a progress file: {error}; remove it to send from the start"))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.progress.display())),
        };
        let length = file.metadata()?.len();
        let start = FileStart::read(file, before.as_ref().map_or(START_BYTES, |before| before.start.bytes))?;
        SendProgress::resume(before, start, length, reading, restart)
    }

    /// Replaces the progress in one step.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, progress: &SendProgress) -> anyhow::Result<()> {
        let mut new = self.progress.clone().into_os_string();
        new.push(".new");
        std::fs::write(&new, serde_json::to_vec(progress)?)
            .and_then(|()| std::fs::rename(&new, &self.progress))
            .with_context(|| format!("cannot write {}", self.progress.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write as _;

    use super::*;
    use crate::ending::Ending;
    use crate::records::InputFormat;

    fn reading(format: InputFormat) -> InputReading {
        InputReading { format, event_type: None, numbers: BTreeSet::new() }
    }

    fn start(sha256: &str) -> FileStart {
        FileStart { bytes: 9, sha256: sha256.to_owned() }
    }

    fn before() -> SendProgress {
        let new = SendProgress::new(start("a"), reading(InputFormat::Csv));
        SendProgress { offset: 100, lines: 5, accepted: 4, ..new }
    }

    fn resume(sha256: &str, length: u64, format: InputFormat, restart: bool) -> anyhow::Result<SendProgress> {
        SendProgress::resume(Some(before()), start(sha256), length, reading(format), restart)
    }

    #[test]
    fn the_same_file_goes_on_and_may_have_grown() {
        assert_eq!(resume("a", 100, InputFormat::Csv, false).unwrap(), before());
        assert_eq!(resume("a", 900, InputFormat::Csv, false).unwrap(), before());
    }

    #[test]
    fn another_file_or_another_reading_is_refused() {
        for (sha256, length, format) in
            [("b", 100, InputFormat::Csv), ("a", 99, InputFormat::Csv), ("a", 100, InputFormat::Ndjson)]
        {
            let error = resume(sha256, length, format, false).unwrap_err();
            assert_eq!(Ending::of(&error), Ending::WrongUse);
            assert!(error.to_string().contains("--restart"), "{error}");
        }
    }

    #[test]
    fn a_restart_begins_at_the_start_whatever_was_before() {
        for sha256 in ["a", "b"] {
            let again = resume(sha256, 50, InputFormat::Ndjson, true).unwrap();
            assert_eq!(again, SendProgress::new(start(sha256), reading(InputFormat::Ndjson)));
        }
    }

    #[test]
    fn what_is_saved_is_read_again_after_the_file_has_grown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "type\nclick\n").unwrap();
        let beside = BesideInput::of(&path);
        let open = || beside.open(&mut File::open(&path).unwrap(), reading(InputFormat::Csv), false);
        let first = open().unwrap();
        assert_eq!(first.position(), LinePosition::default());
        beside.save(&SendProgress { offset: 11, lines: 2, ..first }).unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"view\n").unwrap();
        assert_eq!(open().unwrap().position(), LinePosition { offset: 11, lines: 2 });
        std::fs::write(&path, "type\nother\n").unwrap();
        assert!(open().is_err());
        std::fs::write(&beside.progress, "{}").unwrap();
        assert!(open().unwrap_err().to_string().contains("not a progress file"));
    }
}
