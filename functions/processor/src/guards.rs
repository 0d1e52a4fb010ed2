//! What this instance knows of the health of its dependencies.

use std::time::Duration;

use lambda::breaker::guard;
use pipeline::Dependency;
use pipeline::guard::Guard;

use crate::config::DedupStore;

/// One for each dependency, whichever ports speak to it. The scorer's is in [`scoring::Scoring`].
pub struct Guards {
    pub dynamodb: Guard,
    pub postgres: Guard,
    pub kafka: Guard,
    claims_in: DedupStore,
}

impl Guards {
    pub fn new(open_for: Duration, claims_in: DedupStore) -> Self {
        Guards {
            dynamodb: guard(Dependency::Dynamodb, open_for),
            postgres: guard(Dependency::Postgres, open_for),
            kafka: guard(Dependency::Kafka, open_for),
            claims_in,
        }
    }

    /// The guard of the store of claims.
    pub fn claims(&self) -> &Guard {
        match self.claims_in {
            DedupStore::Dynamodb => &self.dynamodb,
            DedupStore::Postgres => &self.postgres,
        }
    }
}
