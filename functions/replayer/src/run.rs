//! One run of the replayer, which may take several invocations.

use std::collections::BTreeMap;
use std::time::Duration;

use event::Timestamp;
use lambda::invocation::Invocation;
use pipeline::ports::{ReplayProgress, TakeOver};
use tokio::time::Instant;

use crate::app::App;
use crate::counts::Counts;
use crate::error::ReplayerError;
use crate::request::{Mode, Request};

/// Time reserved before Lambda's deadline for the batch in progress and the answer.
const RESERVE: Duration = Duration::from_secs(2);
/// The part of the reserved time in which a batch that was begun is finished.
const ENDING: Duration = Duration::from_secs(1);

/// The progress of a run, and the deadlines of this invocation.
#[derive(Debug)]
pub struct ReplayRun<'a> {
    app: &'a App,
    /// `None` for a dry run, which saves nothing.
    name: Option<&'a str>,
    /// Unique: an invocation that finds another id as the run's holder has been replaced. A request id alone is not
    /// unique outside Lambda.
    holder: String,
    /// No batch is begun after this instant.
    pub deadline: Instant,
    /// A batch that was begun must be finished by this instant.
    pub end_deadline: Instant,
    /// For each partition that was begun, the first offset that is not processed yet.
    pub next: BTreeMap<i32, i64>,
    pub counts: Counts,
}

impl<'a> ReplayRun<'a> {
    /// Begins or continues the run.
    ///
    /// # Errors
    /// If the run of that name has another request, or Postgres fails.
    pub async fn open(app: &'a App, request: &'a Request, invocation: &Invocation) -> Result<Self, ReplayerError> {
        let deadline = Instant::now() + invocation.remaining(RESERVE);
        let mut run = ReplayRun {
            app,
            name: None,
            holder: format!("{}-{:016x}", invocation.request_id, fastrand::u64(..)),
            deadline,
            end_deadline: deadline + ENDING,
            next: BTreeMap::new(),
            counts: Counts::default(),
        };
        let name = match &request.mode {
            Mode::DryRun { from_offsets } => {
                run.next.clone_from(from_offsets);
                return Ok(run);
            }
            Mode::Run { name } => name,
        };
        let order = serde_json::to_string(&request.order).map_err(ReplayerError::Answer)?;
        let take_over = || app.ports.runs.take_over(name, &order, &run.holder, app.now());
        match app.postgres.call(run.end_deadline, "taking over the run", take_over).await? {
            TakeOver::Other { request } => Err(ReplayerError::OtherRequest { run: name.clone(), request }),
            TakeOver::Ours(ReplayProgress { next, counts }) => {
                if !counts.is_empty() {
                    run.counts = serde_json::from_str(&counts)
                        .map_err(|source| ReplayerError::Counts { run: name.clone(), source })?;
                }
                Ok(ReplayRun { name: Some(name), next, ..run })
            }
        }
    }

    pub fn is_dry(&self) -> bool {
        self.name.is_none()
    }

    /// Saves the progress.
    ///
    /// # Errors
    /// If another invocation has taken the run over, or Postgres fails.
    pub async fn save(&self) -> Result<(), ReplayerError> {
        let Some(name) = self.name else { return Ok(()) };
        let counts = serde_json::to_string(&self.counts).map_err(ReplayerError::Answer)?;
        let progress = ReplayProgress { next: self.next.clone(), counts };
        let now: Timestamp = self.app.now();
        let save = || self.app.ports.runs.save(name, &self.holder, &progress, now);
        let is_ours = self.app.postgres.call(self.end_deadline, "saving progress", save).await?;
        if is_ours { Ok(()) } else { Err(ReplayerError::TakenOver { run: name.to_owned() }) }
    }
}
