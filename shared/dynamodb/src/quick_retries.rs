//! Repeats of what failed quickly, inside one call of a port.

use std::time::Duration;

use pipeline::backoff::Backoff;

use crate::DynamoDbError;

/// Six attempts, about 400 ms of waiting in all. A call of a port is up to forty requests: if each were sent once
/// only, a throttled table would fail nearly every call, and repeating a whole call would not help.
const POLICY: Backoff = Backoff { attempts: 6, base: Duration::from_millis(25), cap: Duration::from_millis(400) };

/// Counts the attempts of one request.
#[derive(Debug)]
pub(crate) struct QuickRetries {
    attempt: u32,
}

impl QuickRetries {
    pub(crate) fn new() -> Self {
        QuickRetries { attempt: 1 }
    }

    /// Waits before the next attempt, or hands `error` back if it should not or must not be repeated here.
    pub(crate) async fn wait_after(&mut self, error: DynamoDbError) -> Result<(), DynamoDbError> {
        if !error.is_quick() || self.attempt >= POLICY.attempts {
            return Err(error);
        }
        tokio::time::sleep(POLICY.wait(self.attempt)).await;
        self.attempt += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cause;

    fn failure(cause: Cause) -> DynamoDbError {
        DynamoDbError::Request { table: "t".into(), cause, source: "boom".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_its_attempts_and_at_once_on_a_timeout() {
        let mut retries = QuickRetries::new();
        for _ in 1..POLICY.attempts {
            retries.wait_after(failure(Cause::Throttled)).await.unwrap();
        }
        assert!(retries.wait_after(failure(Cause::Throttled)).await.is_err());
        assert!(QuickRetries::new().wait_after(failure(Cause::TimedOut)).await.is_err());
    }
}
