//! A function: its pool of instances, and how a call goes through it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline::clock::{Clock as _, SystemClock};
use tokio::sync::Semaphore;

use crate::config::FunctionConfig;
use crate::error::HostError;
use crate::instance::{
    Call, CallEnd, Delivery, Instance, InstanceView, InvocationResult, RUNTIME_API_PREFIX, SharedInstance,
};
use crate::lock::lock;
use crate::log::LogSink;
use crate::process::{Process, is_file};

/// The region of functions whose environment does not set one.
const DEFAULT_REGION: &str = "us-east-1";

/// Why the host did not make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvokeRefusal {
    /// The queue is full.
    Throttled,
    Stopping,
}

/// The functions by name, shared by both APIs.
pub(crate) type FunctionMap = Arc<BTreeMap<String, Arc<Function>>>;

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) config: FunctionConfig,
    pub(crate) arn: String,
    api: SocketAddr,
    sink: LogSink,
    /// One permit for each call that runs or waits.
    admissions: Semaphore,
    /// One permit for each call that runs: as many as instances may exist.
    slots: Semaphore,
    pool: Mutex<Pool>,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Pool {
    all: BTreeMap<u64, SharedInstance>,
    /// The most recently used last.
    idle: Vec<SharedInstance>,
}

impl Function {
    pub(crate) async fn new(config: FunctionConfig, api: SocketAddr) -> Result<Self, HostError> {
        if !is_file(&config.program).await {
            return Err(HostError::MissingProgram { name: config.name, program: config.program });
        }
        let region = config.env.iter().find(|(name, _)| name == "AWS_REGION").map(|(_, value)| value.as_str());
        let arn = format!("arn:aws:lambda:{}:000000000000:function:{}", region.unwrap_or(DEFAULT_REGION), config.name);
        let slots = config.concurrency.max(1);
        Ok(Function {
            arn,
            api,
            sink: LogSink::open(&config.name, &config.log)?,
            admissions: Semaphore::new(slots.saturating_add(config.queue).min(Semaphore::MAX_PERMITS)),
            slots: Semaphore::new(slots),
            pool: Mutex::default(),
            next_id: AtomicU64::new(1),
            config,
        })
    }

    /// Starts instances before the first call. A failure is only logged: the call that needs the instance will report
    /// it to its caller.
    pub(crate) fn prewarm(self: &Arc<Self>) {
        for _ in 0..self.config.prewarm.min(self.config.concurrency.max(1)) {
            let function = Arc::clone(self);
            tokio::spawn(async move {
                let Ok(_slot) = function.slots.acquire().await else { return };
                match function.start_instance().await {
                    Ok(instance) => lock(&function.pool).idle.push(instance),
                    Err(answer) => {
                        tracing::warn!(
                            function = function.config.name,
                            ?answer,
                            "an instance of a function did not start"
                        );
                    }
                }
            });
        }
    }

    /// Makes a call on the idle instance that was used last, or on a new one.
    pub(crate) async fn invoke(self: &Arc<Self>, call: Call) -> Result<InvocationResult, InvokeRefusal> {
        let _admission = self.admissions.try_acquire().map_err(|error| match error {
            tokio::sync::TryAcquireError::NoPermits => InvokeRefusal::Throttled,
            tokio::sync::TryAcquireError::Closed => InvokeRefusal::Stopping,
        })?;
        let _slot = self.slots.acquire().await.map_err(|_| InvokeRefusal::Stopping)?;
        let instance = match self.take_idle() {
            Some(instance) => instance,
            None => match self.start_instance().await {
                Ok(instance) => instance,
                Err(answer) => return Ok(answer),
            },
        };
        Ok(match self.call(&instance, call).await {
            CallEnd::Answered(answer) => {
                lock(&self.pool).idle.push(instance);
                answer
            }
            CallEnd::Lost(answer) => answer,
        })
    }

    async fn call(&self, instance: &Instance, call: Call) -> CallEnd {
        let timeout = self.config.timeout;
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let deadline_ms = SystemClock.now().as_millis().saturating_add(timeout_ms);
        instance.call(Delivery { call, deadline_ms }, timeout).await
    }

    fn take_idle(&self) -> Option<SharedInstance> {
        let mut pool = lock(&self.pool);
        while let Some(instance) = pool.idle.pop() {
            if !instance.process.has_ended() {
                return Some(instance);
            }
        }
        None
    }

    async fn start_instance(self: &Arc<Self>) -> Result<SharedInstance, InvocationResult> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let instance = {
            // Under the lock, so that the runtime's first poll finds its instance.
            let mut pool = lock(&self.pool);
            let process = Process::spawn(&self.config.program, self.environment(id), &self.sink).map_err(|error| {
                let message = format!("cannot start {}: {error}", self.config.program.display());
                InvocationResult::function_error("Runtime.InvalidEntrypoint", &message)
            })?;
            let instance = Arc::new(Instance::new(id, process));
            pool.all.insert(id, Arc::clone(&instance));
            instance
        };
        tracing::debug!(
            function = self.config.name,
            instance = id,
            pid = instance.process.pid,
            "started an instance of a function"
        );
        tokio::spawn(forget_when_ended(Arc::downgrade(self), Arc::clone(&instance)));
        instance.initialised().await?;
        Ok(instance)
    }

    /// What Lambda sets (Developer Guide, "Defined runtime environment variables"), then the function's own.
    fn environment(&self, id: u64) -> Vec<(String, String)> {
        let FunctionConfig { name, memory_mb, program, env, .. } = &self.config;
        let folder = program.parent().unwrap_or(Path::new("/"));
        let lambda = [
            // With the scheme: a URI without a scheme cannot have a path.
            ("AWS_LAMBDA_RUNTIME_API", format!("http://{}{RUNTIME_API_PREFIX}/{name}/{id}", self.api)),
            ("AWS_LAMBDA_FUNCTION_NAME", name.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory_mb.to_string()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}")),
            ("AWS_LAMBDA_LOG_STREAM_NAME", format!("{name}/[$LATEST]{id}")),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
            ("AWS_REGION", DEFAULT_REGION.to_owned()),
            ("AWS_DEFAULT_REGION", DEFAULT_REGION.to_owned()),
            ("LAMBDA_TASK_ROOT", folder.display().to_string()),
            ("_HANDLER", "bootstrap".to_owned()),
            ("TZ", ":UTC".to_owned()),
            // Instances would fight for the port that the host's own environment may name. Empty is as if it were not set.
            ("OPERATIONS_PORT", String::new()),
        ];
        lambda.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(env.iter().cloned()).collect()
    }

    pub(crate) fn instance(&self, id: u64) -> Option<SharedInstance> {
        lock(&self.pool).all.get(&id).cloned()
    }

    pub(crate) fn instances(&self) -> Vec<InstanceView> {
        lock(&self.pool).all.values().map(|instance| instance.view()).collect()
    }

    /// Refuses new calls, waits for those in flight, and stops every instance.
    pub(crate) async fn stop(&self, drain: Duration) {
        self.admissions.close();
        let slots = u32::try_from(self.config.concurrency.max(1)).unwrap_or(u32::MAX);
        if tokio::time::timeout(drain, self.slots.acquire_many(slots)).await.is_err() {
            tracing::warn!(
                function = self.config.name,
                "the host stops a function although its calls did not finish in time"
            );
        }
        self.slots.close();
        let mut ending = tokio::task::JoinSet::new();
        for instance in lock(&self.pool).all.values().cloned() {
            ending.spawn(async move { instance.process.terminate().await });
        }
        ending.join_all().await;
    }

    /// Refuses new calls and kills every instance, without waiting.
    pub(crate) fn kill(&self) {
        self.admissions.close();
        self.slots.close();
        for instance in lock(&self.pool).all.values() {
            instance.process.kill();
        }
    }
}

async fn forget_when_ended(function: std::sync::Weak<Function>, instance: SharedInstance) {
    let status = instance.process.ended().await;
    let Some(function) = function.upgrade() else { return };
    let mut pool = lock(&function.pool);
    pool.all.remove(&instance.id);
    pool.idle.retain(|idle| idle.id != instance.id);
    let pid = instance.process.pid;
    tracing::info!(
        function = function.config.name,
        instance = instance.id,
        pid,
        status,
        "an instance of a function ended"
    );
}
