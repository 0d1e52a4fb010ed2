//! One run of the redriver: its id and its deadlines.

use std::time::Duration;

use event::Timestamp;
use lambda::invocation::Invocation;
use pipeline::clock::Clock;
use tokio::time::Instant;

/// Time reserved before Lambda's deadline to finish the step in progress, the audit entry and the answer.
const RESERVE: Duration = Duration::from_secs(2);
/// The part of the reserved time that is for the answer alone.
const ANSWER_RESERVE: Duration = Duration::from_millis(500);

/// How long after its deadline a run counts as dead; the Kafka client goes on trying that long.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct RedriveRun {
    /// Unique, because marks belong to it.
    pub id: String,
    pub started_at: Timestamp,
    /// No step is begun after this instant: no further letters are read, sent or parked.
    pub deadline: Instant,
    /// Calls may go on until this instant, to finish the step in progress and the audit entry.
    pub end_deadline: Instant,
    /// From this instant on, another run may begin the steps that this run has begun and not finished.
    pub until: Timestamp,
}

impl RedriveRun {
    pub fn begin(invocation: &Invocation, clock: &dyn Clock) -> Self {
        let started_at = clock.now();
        RedriveRun {
            id: invocation.run_id(),
            started_at,
            deadline: Instant::now() + invocation.remaining(RESERVE),
            end_deadline: Instant::now() + invocation.remaining(ANSWER_RESERVE),
            until: started_at.plus(invocation.remaining(Duration::ZERO)).plus(GRACE),
        }
    }

    /// The same run, which begins no step after so much time.
    pub fn within(self, longest: Duration) -> Self {
        RedriveRun { deadline: self.deadline.min(Instant::now() + longest), ..self }
    }

    pub fn is_out_of_time(&self) -> bool {
        Instant::now() >= self.deadline
    }
}
