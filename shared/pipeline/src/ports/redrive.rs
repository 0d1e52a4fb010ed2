//! What a redriver stores: marks for the letters it has handled.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use event::{Origin, Timestamp};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use crate::{DependencyError, Position};

/// How long a mark is kept: longer than its letter, which Kafka keeps for two weeks by default. A letter whose mark has been
/// removed can be sent again, which changes nothing, because all later processing is idempotent by origin.
pub const KEEP_MARKS: Duration = Duration::from_secs(90 * 86_400);

/// Identifies a dead letter. Copies on the topic that come from redelivery have the same id. A record that fails again
/// after a redrive has another attempt number, and so becomes another letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    pub origin: Origin,
    /// How often the record had been redriven when it failed.
    pub attempt: u32,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attempt {}", self.origin, self.attempt)
    }
}

/// What can be done with a letter, each step at most once.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    EnumString,
    strum::Display,
    IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum LetterStep {
    /// Send it back to `raw-events`.
    Send,
    /// Write it to the object store, because it failed too often.
    Park,
}

impl LetterStep {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A step of one letter: the key of a mark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkKey {
    pub letter: LetterId,
    pub step: LetterStep,
}

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkState {
    /// A run has begun it. From `until` on the run counts as dead, and another one may begin the step again.
    UnderWay { until: Timestamp },
    /// It is done. `position` is the position of the copy, if one was sent.
    Done { position: Option<Position> },
}

/// What is stored about a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub key: MarkKey,
    /// The run that wrote it last.
    pub run: String,
    /// When it wrote it.
    pub at: Timestamp,
    pub state: MarkState,
}

/// The answer to a request to begin a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginVerdict {
    /// The caller may do the step: no run had begun it, or the caller itself had, or the run that had counts as dead.
    Ours,
    /// Another run has the step until then.
    UnderWay {
        until: Timestamp,
    },
    Done,
}

/// Remembers which steps of which letters are under way or done.
///
/// A mark saves work; it does not guarantee that a step is done only once. If a run dies between doing a step and
/// marking it as done, the mark expires and the step is done again. That is harmless, because all later processing is
/// idempotent by origin. A mark that never expired could block a letter for ever, and the letter would be lost.
#[async_trait]
pub trait RedriveMarks: Send + Sync {
    /// Begins each step for `run`, which has until `until` to finish it. Of concurrent runs that begin a step, one gets
    /// [`BeginVerdict::Ours`]. Repeating a call is safe: steps that the run has begun stay its own.
    ///
    /// The caller passes each key at most once per call.
    async fn begin(
        &self,
        keys: &[MarkKey],
        run: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<BeginVerdict>, DependencyError>;

    /// Marks steps as done, each with the position of its copy, and replaces whatever the mark held before.
    async fn finish(
        &self,
        done: &[(MarkKey, Option<Position>)],
        run: &str,
        now: Timestamp,
    ) -> Result<(), DependencyError>;

    /// The mark of each step. A consistent read: marks written before the call are found.
    async fn find(&self, keys: &[MarkKey]) -> Result<Vec<Option<Mark>>, DependencyError>;

    /// All marks of the letters with that origin, ordered by attempt and step: how the record was redriven.
    async fn of_origin(&self, origin: &Origin) -> Result<Vec<Mark>, DependencyError>;
}
