//! What a redriver remembers: which letters it has dealt with, and what it was asked to do.

use std::fmt;

use async_trait::async_trait;
use event::{Origin, Timestamp};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use crate::{DependencyError, Position};

/// A dead letter. Its copies on the topic, which come from redelivery, have the same id; after a redrive that failed
/// the attempt is another one, and so is the letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    pub origin: Origin,
    /// How often it had been redriven when it failed.
    pub attempt: u32,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attempt {}", self.origin, self.attempt)
    }
}

/// What can be done with a letter, each at most once.
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
    /// Back to `raw-events`.
    Send,
    /// Into the object store, because it failed too often.
    Park,
}

impl LetterStep {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A step of a letter: what a mark is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkKey {
    pub letter: LetterId,
    pub step: LetterStep,
}

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkState {
    /// A run has begun it. From `until` on the run is taken for dead, and another one may begin it again.
    UnderWay { until: Timestamp },
    /// It is done. `position` is where the copy stands, if it was sent.
    Done { position: Option<Position> },
}

/// What is remembered of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub key: MarkKey,
    /// The run that wrote it last.
    pub run: String,
    /// When it wrote it.
    pub at: Timestamp,
    pub state: MarkState,
}

/// The answer to the wish to begin a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginVerdict {
    /// It is the caller's: nobody had begun it, or the caller itself had, or who had is taken for dead.
    Ours,
    /// Another run is at it until then.
    UnderWay {
        until: Timestamp,
    },
    Done,
}

/// Remembers which steps of which letters are under way or done.
///
/// A mark saves work; it is not what keeps effects single. A run that dies between doing a step and saying so leaves a
/// mark that lapses, and the step is done again. That is harmless, because everything behind it is idempotent by
/// origin, and a mark that could block a letter for ever would lose it.
#[async_trait]
pub trait RedriveMarks: Send + Sync {
    /// Begins each step for `run`, which is given until `until` to finish it. Of concurrent runs that begin a step one
    /// gets [`BeginVerdict::Ours`]. Repeating a call is safe: what the run has begun is its own.
    ///
    /// The caller gives each key at most once per call.
    async fn begin(
        &self,
        keys: &[MarkKey],
        run: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<BeginVerdict>, DependencyError>;

    /// Says that steps are done, each with where its copy stands. Whatever the mark said before, it now says this.
    async fn finish(
        &self,
        done: &[(MarkKey, Option<Position>)],
        run: &str,
        now: Timestamp,
    ) -> Result<(), DependencyError>;

    /// What is remembered of each step. Consistent: what was written before the call is found.
    async fn find(&self, keys: &[MarkKey]) -> Result<Vec<Option<Mark>>, DependencyError>;

    /// Every mark of the letters of that origin, by attempt and step: how a record was redriven.
    async fn of_origin(&self, origin: &Origin) -> Result<Vec<Mark>, DependencyError>;
}

/// How an action of a redriver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum ActionState {
    /// Begun. An entry that stays so belongs to a run that was killed.
    Started,
    Finished,
    Failed,
}

impl ActionState {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// An action in the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    pub started_at: Timestamp,
    /// Unique among actions.
    pub run: String,
    pub action: String,
    /// Who asked for it, as they say.
    pub by: Option<String>,
    pub state: ActionState,
    /// The request, as JSON text.
    pub request: String,
    /// What came of it, as JSON text; empty until the action has ended.
    pub result: String,
}

/// The trail of what redrivers were asked to do and did.
#[async_trait]
pub trait RedriveAudit: Send + Sync {
    /// Writes the entry, in place of an earlier one of the same start and run.
    async fn record(&self, entry: &AuditEntry) -> Result<(), DependencyError>;

    /// The entries whose actions started on the UTC day of `day`, oldest first.
    async fn entries(&self, day: Timestamp) -> Result<Vec<AuditEntry>, DependencyError>;
}
