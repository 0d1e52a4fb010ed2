//! Reads and scores records again, and stores the outcomes in a table of their own.

use std::borrow::Cow;
use std::sync::Arc;

use aws_config::SdkConfig;
use event::Timestamp;
use lambda::guard::guard;
use pipeline::decisions::intake::Reader;
use pipeline::decisions::{reprocessing, verdicts};
use pipeline::ports::{LedgerEntry, Scorer};
use pipeline::{Dependency, ReasonTag, Record};
use scoring::{ScorerClient, Scoring};
use tokio::time::Instant;

use crate::App;
use crate::counts::Counts;
use crate::error::ReplayerError;
use crate::request::Order;

/// Scorers by function name, alias or ARN.
pub trait Scorers: Send + Sync {
    fn scorer(&self, function: &str) -> Arc<dyn Scorer>;
}

/// Scorers that are called through the Lambda Invoke API.
#[derive(Debug)]
pub struct LambdaScorers {
    config: SdkConfig,
}

impl LambdaScorers {
    pub fn new(config: SdkConfig) -> Self {
        LambdaScorers { config }
    }
}

impl Scorers for LambdaScorers {
    fn scorer(&self, function: &str) -> Arc<dyn Scorer> {
        Arc::new(ScorerClient::new(&self.config, function))
    }
}

/// The reprocessing of one version.
pub struct Reprocessor<'a> {
    app: &'a App,
    version: &'a str,
    scoring: Scoring,
    is_dry: bool,
}

impl<'a> Reprocessor<'a> {
    /// Uses the configured scorer, unless `scorer` names another.
    pub fn new(app: &'a App, version: &'a str, scorer: Option<&str>, is_dry: bool) -> Self {
        let scorer = app.ports.scorers.scorer(scorer.unwrap_or(&app.policy.scorer_function));
        let scoring =
            Scoring::new(scorer, guard(Dependency::Scorer, app.policy.breaker_open), app.policy.scorer_timeout);
        Reprocessor { app, version, scoring, is_dry }
    }

    /// Decides on the selected records, counts what changes, and unless the run is dry adds the new outcomes. Repeating
    /// it changes nothing.
    ///
    /// # Errors
    /// If Postgres or the scorer fails after bounded retries. Nothing is added then.
    pub async fn reprocess(
        &self,
        order: &Order,
        records: &[Record],
        counts: &mut Counts,
        deadline: Instant,
    ) -> Result<(), ReplayerError> {
        let policy = &self.app.policy;
        // Nothing that is decided again depends on when an event was received.
        let now = Timestamp::EPOCH;
        let reader = Reader { registry: &self.app.registry, foreign_tenant: &policy.foreign_tenant, now };
        let read = reader.read_all(records);
        let look_up = || self.app.ports.reprocessed.first_outcomes(&read);
        let firsts = self.app.postgres.call_each(deadline, "looking up first outcomes", read.len(), look_up).await?;
        let records: Vec<Cow<'_, Record>> = records.iter().zip(&firsts).map(as_delivered).collect();
        let read = reader.read_all(records.iter().map(|record| &**record));
        let admitted = reprocessing::admit(read, &firsts)?;
        let scores = match verdicts::ScorePlan::new(&admitted).requests.as_slice() {
            [] => Vec::new(),
            requests => self.scoring.score(requests, deadline).await.ok_or(ReplayerError::NoScores)?,
        };
        let decided = verdicts::decide(admitted, Some(scores), policy.fraud_threshold)?;

        let now = self.app.now();
        let mut meant = Vec::with_capacity(decided.len());
        for ((record, tracked), first) in records.iter().zip(decided).zip(&firsts) {
            let event_type = tracked.event_type();
            if !order.means(event_type, tracked.key().map(|key| key.tenant.as_str())) {
                counts.left_out += 1;
                continue;
            }
            let value_bytes = record.value.as_ref().map_or(0, |value| value.len());
            let event_type = event_type.map(str::to_owned);
            let second = reprocessing::entry(tracked, first.as_ref(), now);
            counts.add(second.outcome, event_type.as_deref(), value_bytes);
            let changes = &mut counts.reprocessed.get_or_insert_default().changes;
            *changes.entry(reprocessing::change(first.as_ref(), &second)).or_default() += 1;
            meant.push(second);
        }
        if self.is_dry || meant.is_empty() {
            return Ok(());
        }
        let add = || self.app.ports.reprocessed.add(self.version, &meant);
        let added = self.app.postgres.call(deadline, "adding outcomes", add).await?;
        let reprocessed = counts.reprocessed.get_or_insert_default();
        reprocessed.added += added;
        reprocessed.already += meant.len() as u64 - added.min(meant.len() as u64);
        Ok(())
    }
}

/// The record as the trigger delivered it. A field that could not be decoded then is archived as the text that was
/// delivered, so only the first outcome shows that it could not be decoded.
fn as_delivered<'a>((record, first): (&'a Record, &Option<LedgerEntry>)) -> Cow<'a, Record> {
    let is_undecodable = |first: &LedgerEntry| ReasonTag::of(&first.reason) == Some(ReasonTag::Undecodable);
    if first.as_ref().is_some_and(is_undecodable) {
        Cow::Owned(Record { undecodable: Some("the trigger could not decode it when it came"), ..record.clone() })
    } else {
        Cow::Borrowed(record)
    }
}
