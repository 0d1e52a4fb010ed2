//! One run of the redriver: who it is and how long it has.

use std::time::Duration;

use event::Timestamp;
use lambda::invocation::Invocation;
use pipeline::clock::Clock;
use tokio::time::Instant;

/// Kept back from the platform's deadline to finish the step at hand, the audit entry and the answer.
const RESERVE: Duration = Duration::from_secs(2);
/// The part of it for the answer alone.
const ANSWER_RESERVE: Duration = Duration::from_millis(500);

/// How long after the deadline a run counts as dead: the Kafka client goes on trying that long.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct RedriveRun {
    /// Unique: marks belong to it. A request id alone is not, outside Lambda.
    pub id: String,
    pub started_at: Timestamp,
    /// No step is begun after this: no reading, sending or parking of further letters.
    pub deadline: Instant,
    /// Calls may go on until this, to finish the step at hand and the audit entry.
    pub end_deadline: Instant,
    /// What this run has begun and not finished may be begun by another from then on.
    pub until: Timestamp,
}

impl RedriveRun {
    pub fn begin(invocation: &Invocation, clock: &dyn Clock) -> Self {
        let started_at = clock.now();
        RedriveRun {
            id: format!("{}-{:016x}", invocation.request_id, fastrand::u64(..)),
            started_at,
            deadline: Instant::now() + invocation.remaining(RESERVE),
            end_deadline: Instant::now() + invocation.remaining(ANSWER_RESERVE),
            until: started_at.plus(invocation.remaining(Duration::ZERO)).plus(GRACE),
        }
    }

    pub fn is_out_of_time(&self) -> bool {
        Instant::now() >= self.deadline
    }
}
