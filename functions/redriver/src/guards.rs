//! What this instance knows of the health of its dependencies.

use std::time::Duration;

use lambda::breaker::guard;
use pipeline::Dependency;
use pipeline::guard::Guard;

/// One for each dependency, whichever ports speak to it.
pub struct Guards {
    pub kafka: Guard,
    pub dynamodb: Guard,
    pub s3: Guard,
}

impl Guards {
    /// `open_for`: how long a breaker refuses calls before it probes.
    pub fn new(open_for: Duration) -> Self {
        Guards {
            kafka: guard(Dependency::Kafka, open_for),
            dynamodb: guard(Dependency::Dynamodb, open_for),
            s3: guard(Dependency::S3, open_for),
        }
    }
}
