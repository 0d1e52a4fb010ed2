//! One run of the pipeline under one kind of fault: start, send load, break things, wait, read everything, check.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pipeline::ports::KeyKind;
use services::free_port;
use services::postgres::ThrowAwayPostgres;
use settings::ProcessEnvironment;
use stack::options::{Options, PoolerChoice, Port};
use stack::stack::Stack;

use crate::disk::SmallDisk;
use crate::evidence::{self, Evidence, Sources, TopicRecords};
use crate::ledger::{self, ClientLedger};
use crate::load::{Client, Load, LoadEvent, Seen};
use crate::memory::{self, Peaks};
use crate::name::Name;
use crate::proxy::Proxy;
use crate::rescoring;
use crate::statistics;
use crate::verdict::{TrialFindings, judge};
use crate::webhooks::Listener;

/// The functions that process events.
pub const FUNCTIONS: [&str; 5] = ["ingest", "processor", "scorer", "archiver", "aggregator"];

/// The tenant of all events.
pub const TENANT: &str = "chaos";
/// Events per minute that the key of the load may send: more than any load.
pub const NO_LIMIT: u32 = 100_000_000;
/// I6: maximum time from the end of load and faults until no record waits.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(120);
/// I7: how many processes may end after the faults have ended, while the rest is processed; some faults have a late
/// effect.
const LATE_ENDS: usize = 8;
/// I7: the memory that the host gives the functions in their environment (`host::FunctionConfig::new`), in kB.
const MEMORY_LIMIT: u64 = 512 * 1024;

/// What all trials of a run have in common.
#[derive(Clone, Debug)]
pub struct ChaosRun {
    pub seed: u64,
    /// The functions, built with failpoints.
    pub binaries: PathBuf,
    /// Folder for ledgers and state.
    pub folder: PathBuf,
    /// The short selection: fewer events, faults and repetitions.
    pub short: bool,
    /// In F1, only the failpoints whose names contain this.
    pub point: Option<String>,
}

impl ChaosRun {
    /// The random numbers of one trial: the same for the same seed and name.
    pub fn rng(&self, name: &str) -> Rng {
        Rng::with_seed(name.bytes().fold(self.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into())))
    }

    /// The value for the short or for the whole suite.
    pub fn size<T>(&self, short: T, whole: T) -> T {
        if self.short { short } else { whole }
    }
}

/// How a trial differs from the default.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub load: Load,
    /// Requests to send instead of the load's own plan.
    pub requests: Option<Vec<Vec<LoadEvent>>>,
    pub settings: Vec<(String, String)>,
    pub function_timeout: Option<Duration>,
    /// Whether functions reach their dependencies through proxies.
    pub proxied: bool,
    /// Programs to start instead of the run's binaries; they must execute those binaries.
    pub binaries: Option<PathBuf>,
    /// Whether processes end by themselves, also after the load. Then each one that ends while records wait is a fault.
    pub ends_count: bool,
    /// If set, that service's folder is on a disk of that many MB.
    pub small_disk: Option<(&'static str, u32)>,
    /// Whether functions reach Postgres by a name that can be pointed to another server.
    pub named_postgres: bool,
    /// Whether PgBouncer is between the functions and Postgres, also if the run has none.
    pub pooled: bool,
    /// If set, a webhook is told of everything, and its receiver answers with this status while the load is sent.
    pub webhook: Option<u16>,
}

/// The proxies, if the trial has them.
pub struct Proxies {
    pub kafka: Proxy,
    pub postgres: Proxy,
    pub dynamodb: Proxy,
    pub s3: Proxy,
}

/// What a fault can use.
pub struct Scene {
    pub stack: Stack,
    pub proxies: Option<Proxies>,
    /// The name by which functions reach Postgres, if the trial has one.
    pub name: Option<Name>,
    /// Servers that are not the primary any more and still run, with the connections that they have.
    pub former: Vec<ThrowAwayPostgres>,
    /// The folder of the services' state, for further servers.
    pub state: PathBuf,
    disk: Option<SmallDisk>,
    pub rng: Rng,
    pub client: Client,
    /// Violations and notes that the fault itself adds.
    pub findings: TrialFindings,
    /// The records of each log of `raw-events` that the fault has deleted.
    pub ended_logs: Vec<TopicRecords>,
    loaded: Arc<AtomicBool>,
}

impl Scene {
    /// Whether the load is still being sent.
    pub fn loading(&self) -> bool {
        !self.loaded.load(Ordering::Relaxed)
    }

    /// Sends a signal to every process of the function; returns how many got it.
    pub fn signal(&self, function: &str, signal: Signal) -> usize {
        let signalled = self.stack.processes(function).into_iter().filter(|pid| {
            // A process that has ended in the meantime does not count.
            kill(Pid::from_raw(pid.cast_signed()), signal).is_ok()
        });
        signalled.count()
    }

    /// Sleeps for a random time from the range, in milliseconds.
    pub async fn pause(&mut self, millis: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(millis))).await;
    }

    /// A direct connection to the database, without a proxy.
    ///
    /// # Errors
    /// If the database does not accept the connection.
    pub async fn database(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        evidence::connect(self.stack.database_url()).await
    }

    /// # Errors
    /// If this trial has no small disk.
    pub fn disk(&self) -> anyhow::Result<&SmallDisk> {
        self.disk.as_ref().context("this trial has no disk to fill")
    }

    /// # Errors
    /// If this trial has no proxies.
    pub fn proxies(&mut self) -> anyhow::Result<&mut Proxies> {
        self.proxies.as_mut().context("this trial has no proxies")
    }

    /// The server that is the primary now.
    ///
    /// # Errors
    /// If the stack uses an external Postgres.
    pub fn postgres(&mut self) -> anyhow::Result<&mut ThrowAwayPostgres> {
        self.stack.backing().postgres.as_mut().context("the suite did not start Postgres, so it cannot break it")
    }

    /// # Errors
    /// If this trial has no name for Postgres.
    pub fn name(&self) -> anyhow::Result<&Name> {
        self.name.as_ref().context("this trial has no name for Postgres")
    }

    /// The processes of all functions that process events.
    pub fn processes(&self) -> BTreeSet<u32> {
        let functions = FUNCTIONS.iter().chain(std::iter::once(&"notifier"));
        functions.flat_map(|function| self.stack.processes(function)).collect()
    }

    /// Counts the processes that end while the condition holds.
    pub async fn count_ends(&self, condition: impl Fn() -> bool) -> usize {
        let (mut alive, mut ends) = (BTreeSet::new(), 0);
        while condition() {
            let now = self.processes();
            ends += alive.difference(&now).count();
            alive = now;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ends
    }

    /// Waits until the pipeline is idle, at most as long as I6 allows. Also returns how many processes ended meanwhile.
    async fn wait_until_idle(&self) -> (anyhow::Result<()>, usize) {
        let under_way = AtomicBool::new(true);
        let becomes_idle = async {
            let idle = self.stack.wait_until_idle(RECOVERY_LIMIT).await;
            under_way.store(false, Ordering::Relaxed);
            idle
        };
        tokio::join!(becomes_idle, self.count_ends(|| under_way.load(Ordering::Relaxed)))
    }
}

/// The result of a trial.
#[derive(Debug)]
pub struct Trial {
    pub name: String,
    pub faults: usize,
    pub seen: Seen,
    /// Time from the end of load and faults until no record waited.
    pub recovery: Option<Duration>,
    /// Peak memory by function, in kB.
    pub memory: Peaks,
    pub findings: TrialFindings,
}

impl Trial {
    pub fn passed(&self) -> bool {
        self.is_sound() && self.faults > 0 && self.findings.not_run.is_none()
    }

    /// A trial whose fault did not happen has neither passed nor failed, unless something else is wrong.
    pub fn failed(&self) -> bool {
        !self.passed() && (self.findings.not_run.is_none() || !self.is_sound())
    }

    fn is_sound(&self) -> bool {
        self.findings.violations.is_empty() && self.recovery.is_some()
    }
}

/// Runs the pipeline under load while `fault` breaks it; `fault` returns how often it did.
///
/// # Errors
/// If the trial itself could not be run. Violations by the pipeline are in the findings.
pub async fn run(
    run: &ChaosRun,
    name: &str,
    setup: Setup,
    fault: impl AsyncFnOnce(&mut Scene) -> anyhow::Result<usize>,
) -> anyhow::Result<Trial> {
    run_and_examine(run, name, setup, fault, |_, _| {}).await
}

/// Like [`run`]; `examine` checks the evidence for what concerns only this fault.
///
/// # Errors
/// As [`run`].
pub async fn run_and_examine(
    run: &ChaosRun,
    name: &str,
    setup: Setup,
    fault: impl AsyncFnOnce(&mut Scene) -> anyhow::Result<usize>,
    examine: impl FnOnce(&Evidence, &mut TrialFindings),
) -> anyhow::Result<Trial> {
    let folder = run.folder.join(name.replace([':', ' '], "-"));
    std::fs::create_dir_all(&folder)?;
    let mut rng = run.rng(name);
    let state = folder.join("state");
    let disk =
        setup.small_disk.map(|(service, megabytes)| SmallDisk::mount(&state.join(service), megabytes)).transpose()?;
    let binaries = setup.binaries.unwrap_or_else(|| run.binaries.clone());
    let mut options = Options::for_one_run(&ProcessEnvironment, binaries)?;
    options.keep = Some(state.clone());
    options.logs = folder.join("logs");
    options = options.with_setting("IP_RATE_LIMIT_PER_MIN", "0");
    // Faults last seconds: a breaker that stays open for a minute would dominate the measurements.
    options = options.with_setting("BREAKER_OPEN_SEC", "5");
    options = options.with_setting("FRAUD_THRESHOLD", rescoring::FRAUD_FROM.to_string());
    for (name, value) in &setup.settings {
        options = options.with_setting(name, value.clone());
    }
    options.aggregate_every = Some(statistics::EVERY);
    options.function_timeout = setup.function_timeout.unwrap_or(options.function_timeout);
    let proxies = if setup.proxied { Some(route(&mut options).await?) } else { None };
    let postgres_name = if setup.named_postgres {
        options.ports.postgres.number = free_port()?;
        let name = Name::start(options.ports.postgres.number).await?;
        options.routes.postgres = Some(name.port);
        Some(name)
    } else {
        None
    };
    if setup.pooled {
        options.pooler = PoolerChoice::PgBouncer;
    }
    let listener = match setup.webhook {
        Some(status) => Some(Listener::start(status).await?),
        None => None,
    };
    if let Some(listener) = &listener {
        options = listener.known_to(options);
    }
    let requests = setup.requests.unwrap_or_else(|| setup.load.plan(&mut rng));

    let watch = memory::Watch::start(&run.binaries)?;
    let stack = Stack::start(options).await?;
    if let Some(listener) = &listener {
        listener.subscribe(&stack, TENANT).await?;
    }
    let ledger_path = folder.join("ledger.ndjson");
    let client = Client {
        http: stack.client.clone(),
        url: format!("{}/batch", stack.ingest_url()),
        key: stack.create_key(TENANT, "chaos", KeyKind::Server, NO_LIMIT).await?,
        ledger: ClientLedger::create(&ledger_path)?,
    };
    let loaded = Arc::new(AtomicBool::new(false));
    let findings = TrialFindings::default();
    let mut scene = Scene {
        stack,
        proxies,
        name: postgres_name,
        former: Vec::new(),
        state: state.clone(),
        disk,
        rng,
        client: client.clone(),
        findings,
        ended_logs: Vec::new(),
        loaded: Arc::clone(&loaded),
    };
    let load = async {
        let seen = client.send(&setup.load, requests).await;
        loaded.store(true, Ordering::Relaxed);
        seen
    };
    let (seen, faults) = tokio::join!(load, fault(&mut scene));
    let (seen, faults) = (seen?, faults?);

    let ended = Instant::now();
    let (idle, ends) = scene.wait_until_idle().await;
    let recovery = ended.elapsed();
    let (faults, late_ends) = if setup.ends_count { (faults + ends, 0) } else { (faults, ends) };
    let evidence = Evidence::gather(&sources(&scene.stack).await?, std::mem::take(&mut scene.ended_logs)).await?;
    let mut findings = judge(&ledger::read(&ledger_path)?, &evidence);
    findings.take_over(std::mem::take(&mut scene.findings));
    examine(&evidence, &mut findings);
    rescoring::check(&scene.stack, &evidence, &mut scene.rng, &mut findings).await?;
    statistics::check(&scene.stack, evidence.rows.len(), &mut findings).await?;
    if let Some(listener) = &listener {
        listener.check(&scene.stack, &evidence, RECOVERY_LIMIT, &mut findings).await?;
    }
    if let Err(error) = &idle {
        findings.add("I6", format!("{error:#}"));
    }
    if seen.without_retry_after > 0 {
        findings.add("I7", format!("{} busy answers without Retry-After", seen.without_retry_after));
    }
    if late_ends > LATE_ENDS {
        findings.add("I7", format!("{late_ends} processes ended after faults had ended: a crash loop"));
    }
    let memory = watch.peaks();
    for (function, peak) in memory.iter().filter(|(_, peak)| **peak > MEMORY_LIMIT) {
        findings.add("I7", format!("{function} took {peak} kB of memory"));
    }
    if faults == 0 {
        findings.add("--", "no fault happened, so the trial is not valid");
    }
    scene.stack.stop().await?;
    drop((scene.former, scene.disk));
    let recovery = idle.is_ok().then_some(recovery);
    let trial = Trial { name: name.to_owned(), faults, seen, recovery, memory, findings };
    // The ledger and the logs of a failed trial stay.
    std::fs::remove_dir_all(&state)?;
    if trial.passed() {
        std::fs::remove_dir_all(folder.join("logs"))?;
    }
    Ok(trial)
}

/// Puts a proxy in front of each service.
async fn route(options: &mut Options) -> anyhow::Result<Proxies> {
    let before = async |port: &mut Port| {
        port.number = free_port()?;
        Proxy::start(port.number).await
    };
    let ports = &mut options.ports;
    let proxies = Proxies {
        kafka: before(&mut ports.kafka).await?,
        postgres: before(&mut ports.postgres).await?,
        dynamodb: before(&mut ports.dynamodb).await?,
        s3: before(&mut ports.s3).await?,
    };
    let at = |proxy: &Proxy| Some(format!("http://127.0.0.1:{}", proxy.port));
    options.routes.kafka = Some(proxies.kafka.port);
    options.routes.dynamodb_endpoint = at(&proxies.dynamodb);
    options.routes.s3_endpoint = at(&proxies.s3);
    options.routes.postgres = Some(proxies.postgres.port);
    Ok(proxies)
}

/// Direct connections to the services, without a proxy.
async fn sources(stack: &Stack) -> anyhow::Result<Sources> {
    let sdk = stack.session.aws("AWS_ENDPOINT_URL_S3").await;
    let config = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
    Ok(Sources {
        brokers: stack.brokers().to_owned(),
        database_url: stack.database_url().to_owned(),
        s3: aws_sdk_s3::Client::from_conf(config),
        bucket: stack.session.require("ARCHIVE_BUCKET")?,
    })
}
