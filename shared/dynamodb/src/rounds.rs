//! Sends the unprocessed part of a batch request again.
//!
//! The SDK repeats requests that fail as a whole (see `client.rs`). A batch can also succeed but leave some of its
//! statements or keys unprocessed, mostly because the table is throttled; the SDK treats that as a success.

use std::time::Duration;

use pipeline::backoff::Backoff;

use crate::DynamoDbError;

/// Four rounds, with waits of up to 25, 50 and 100 ms between them.
const POLICY: Backoff = Backoff { attempts: 4, base: Duration::from_millis(25), cap: Duration::from_millis(100) };

/// Counts the rounds of one batch.
#[derive(Debug)]
pub(crate) struct Rounds {
    round: u32,
}

impl Rounds {
    pub(crate) fn new() -> Self {
        Rounds { round: 1 }
    }

    /// Waits before the next round, or returns `error` if another round would not help or was the last one.
    pub(crate) async fn wait_after(&mut self, error: DynamoDbError) -> Result<(), DynamoDbError> {
        if !error.may_pass_soon() || self.round >= POLICY.attempts {
            return Err(error);
        }
        tokio::time::sleep(POLICY.wait(self.round)).await;
        self.round += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cause;

    fn failure(cause: Cause) -> DynamoDbError {
        DynamoDbError::Statement { table: "t".into(), cause, message: "boom".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_its_rounds_and_at_once_when_access_is_denied() {
        let mut rounds = Rounds::new();
        for _ in 1..POLICY.attempts {
            rounds.wait_after(failure(Cause::Throttled)).await.unwrap();
        }
        assert!(rounds.wait_after(failure(Cause::Throttled)).await.is_err());
        assert!(Rounds::new().wait_after(failure(Cause::Denied)).await.is_err());
    }
}
