//! F1 to F21 of the reliability reference: how each fault is caused.

mod clocks;
mod conduct;
mod duplicates;
mod failover;
mod failpoints;
mod hostile_clients;
mod outages;
mod oversize;
mod poison;
mod redelivery;
mod redrive;
mod reuse;
mod signals;
mod spike;
mod store_faults;
mod transactions;
mod unpublishable;
mod weather;

use clap::ValueEnum;

use crate::trial::ChaosRun;

pub use conduct::Conduct;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Scenario {
    F1,
    F2,
    F3,
    F4,
    F5,
    F6,
    F7,
    F8,
    F9,
    F10,
    F11,
    F12,
    F13,
    F14,
    F15,
    F16,
    F17,
    F18,
    F19,
    F20,
    F21,
}

impl Scenario {
    pub const fn title(self) -> &'static str {
        match self {
            Scenario::F1 => "killed at a failpoint",
            Scenario::F2 => "stopped, frozen, timed out",
            Scenario::F3 => "cut off from Kafka",
            Scenario::F4 => "broker killed",
            Scenario::F5 => "Postgres killed, moved, crowded",
            Scenario::F6 => "DynamoDB slow, silent, down",
            Scenario::F7 => "slow, narrow, half-open",
            Scenario::F8 => "flood of duplicates",
            Scenario::F9 => "tenfold spike, cold",
            Scenario::F10 => "clock skew",
            Scenario::F11 => "poison, scorer killed",
            Scenario::F12 => "oversize and bombs",
            Scenario::F13 => "redelivered in other batches",
            Scenario::F14 => "redrive storm",
            Scenario::F15 => "S3 failing, full, archiver killed",
            Scenario::F16 => "positions reused",
            Scenario::F17 => "transactions, half aborted",
            Scenario::F18 => "too large to publish",
            Scenario::F19 => "another primary, stale plans",
            Scenario::F20 => "no partition, Postgres full",
            Scenario::F21 => "slow and hostile clients",
        }
    }

    /// Whether it is in the short selection.
    pub const fn is_short(self) -> bool {
        matches!(self, Scenario::F1 | Scenario::F2 | Scenario::F5 | Scenario::F8 | Scenario::F11 | Scenario::F13)
    }

    /// Runs the scenario.
    ///
    /// # Errors
    /// If a trial could not be run.
    pub async fn run(self, run: &ChaosRun) -> anyhow::Result<Conduct> {
        Ok(Conduct::Done(match self {
            Scenario::F1 => failpoints::killed_at_failpoints(run).await?,
            Scenario::F2 => vec![signals::stopped_and_frozen(run).await?],
            Scenario::F3 => vec![weather::cut_off_from_kafka(run).await?],
            Scenario::F4 => return outages::broker_killed(run).await,
            Scenario::F5 => outages::postgres_failing(run).await?,
            Scenario::F6 => vec![weather::dynamodb_failing(run).await?],
            Scenario::F7 => vec![weather::slow_dependencies(run).await?],
            Scenario::F8 => vec![duplicates::flood_of_duplicates(run).await?],
            Scenario::F9 => vec![spike::tenfold_spike(run).await?],
            Scenario::F10 => return clocks::clocks_off(run).await,
            Scenario::F11 => vec![poison::poison(run).await?],
            Scenario::F12 => vec![oversize::oversize(run).await?],
            Scenario::F13 => vec![redelivery::redelivered(run).await?],
            Scenario::F14 => vec![redrive::redrive_storm(run).await?],
            Scenario::F15 => weather::s3_failing(run).await?,
            Scenario::F16 => vec![reuse::positions_reused(run).await?],
            Scenario::F17 => return transactions::in_transactions(run).await,
            Scenario::F18 => vec![unpublishable::too_large_to_publish(run).await?],
            Scenario::F19 => failover::failover(run).await?,
            Scenario::F20 => store_faults::store_faults(run).await?,
            Scenario::F21 => vec![hostile_clients::hostile_clients(run).await?],
        }))
    }
}
