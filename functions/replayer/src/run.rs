//! One run of the replayer, over as many invocations as it takes.

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

/// Kept back from the platform's deadline for the batch under way and the answer.
const RESERVE: Duration = Duration::from_secs(2);
/// The part of it in which what was begun is ended.
const ENDING: Duration = Duration::from_secs(1);

/// How far a run is, and how long this invocation may work on it.
#[derive(Debug)]
pub struct ReplayRun<'a> {
    app: &'a App,
    /// `None` is a dry run, of which nothing is kept.
    name: Option<&'a str>,
    /// Unique: who finds another one in its place has been replaced. A request id alone is not unique outside Lambda.
    holder: String,
    /// No batch is begun after this.
    pub deadline: Instant,
    /// What was begun may take until this.
    pub end_deadline: Instant,
    /// For each partition that was begun, the first offset not dealt with.
    pub next: BTreeMap<i32, i64>,
    pub counts: Counts,
}

impl<'a> ReplayRun<'a> {
    /// Begins the run, or goes on with it.
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

    /// Saves what has been done.
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
