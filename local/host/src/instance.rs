//! One instance of a function: its process, and the state behind the Runtime API that the process polls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::tail_text;
use crate::lock::lock;
use crate::process::Process;

/// The path of the Runtime API in the URL. It is cargo-lambda's prefix, so that both look alike in a process list.
pub(crate) const RUNTIME_API_PREFIX: &str = "/.rt";

/// Maximum time from the start of the process to its first poll: Lambda's limit for the init phase.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A call as the Invoke API received it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) request_id: String,
    pub(crate) event: Bytes,
    pub(crate) trace_id: Option<String>,
}

/// A call on its way to the runtime.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) call: Call,
    /// Milliseconds since the epoch.
    pub(crate) deadline_ms: i64,
}

/// What the caller gets with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InvocationResult {
    Success(Bytes),
    /// JSON with `errorType` and `errorMessage`.
    FunctionError(Bytes),
}

impl InvocationResult {
    pub(crate) fn function_error(error_type: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errorType": error_type, "errorMessage": message });
        InvocationResult::FunctionError(body.to_string().into())
    }
}

/// How a call on an instance ended.
#[derive(Debug)]
pub(crate) enum CallEnd {
    /// The instance lives on.
    Answered(InvocationResult),
    /// The process ended, or was killed at the timeout, during the call.
    Lost(InvocationResult),
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Has not polled for a call yet.
    Starting,
    Idle,
    Busy,
}

/// An instance as people and tests see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceView {
    /// Counts up within a function.
    pub id: u64,
    pub pid: u32,
    pub state: InstanceState,
    /// From the start of the process to its first poll, in microseconds; `None` until then. A caller of a new instance waits
    /// so long before its call begins.
    pub first_poll_us: Option<u64>,
    /// Calls handed to it so far.
    pub calls: u64,
}

#[derive(Debug)]
struct Pending {
    request_id: String,
    reply: oneshot::Sender<InvocationResult>,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: u64,
    pub(crate) process: Process,
    outgoing: mpsc::UnboundedSender<Delivery>,
    /// An async lock, because a poll holds it while it waits.
    incoming: tokio::sync::Mutex<mpsc::UnboundedReceiver<Delivery>>,
    pending: Mutex<Option<Pending>>,
    init_error: Mutex<Option<Bytes>>,
    /// From the start of the process to its first poll.
    first_poll: watch::Sender<Option<Duration>>,
    calls: AtomicU64,
}

impl Instance {
    pub(crate) fn new(id: u64, process: Process) -> Self {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        Instance {
            id,
            process,
            outgoing,
            incoming: tokio::sync::Mutex::new(incoming),
            pending: Mutex::new(None),
            init_error: Mutex::new(None),
            first_poll: watch::Sender::new(None),
            calls: AtomicU64::new(0),
        }
    }

    /// Waits for the first poll, which ends the init phase. An instance that does not poll in time is killed, and the
    /// caller gets the reason.
    pub(crate) async fn initialised(&self) -> Result<(), InvocationResult> {
        let mut first_poll = self.first_poll.subscribe();
        tokio::select! {
            polled = first_poll.wait_for(Option::is_some) => {
                // The sender lives as long as `self`, so this cannot fail.
                let _ = polled;
                Ok(())
            }
            status = self.process.ended() => Err(match lock(&self.init_error).take() {
                Some(report) => InvocationResult::FunctionError(report),
                None => InvocationResult::function_error("Runtime.ExitError", &format!(
                    "the function ended before it took a call ({status}){}", tail_text(&self.process.tail.lines())
                )),
            }),
            () = tokio::time::sleep(INIT_TIMEOUT) => {
                self.process.kill();
                Err(InvocationResult::function_error("Sandbox.Timedout", &format!(
                    "the function did not start within {} s{}",
                    INIT_TIMEOUT.as_secs(), tail_text(&self.process.tail.lines())
                )))
            }
        }
    }

    /// Hands over a call and waits for its end. The instance must be idle.
    pub(crate) async fn call(&self, delivery: Delivery, timeout: Duration) -> CallEnd {
        let request_id = delivery.call.request_id.clone();
        let (reply, answered) = oneshot::channel();
        *lock(&self.pending) = Some(Pending { request_id: request_id.clone(), reply });
        // The receiver lives as long as `self`.
        let _ = self.outgoing.send(delivery);
        tokio::select! {
            // An answer that arrived just before the process ended counts.
            biased;
            Ok(answer) = answered => CallEnd::Answered(answer),
            status = self.process.ended() => {
                lock(&self.pending).take();
                let message = format!("RequestId: {request_id} Error: Runtime exited with error: {status}");
                CallEnd::Lost(InvocationResult::function_error("Runtime.ExitError", &message))
            }
            () = tokio::time::sleep(timeout) => {
                self.process.kill();
                lock(&self.pending).take();
                let message =
                    format!("RequestId: {request_id} Error: Task timed out after {:.2} seconds", timeout.as_secs_f64());
                CallEnd::Lost(InvocationResult::function_error("Sandbox.Timedout", &message))
            }
        }
    }

    /// The runtime asks for its next call: waits until there is one.
    pub(crate) async fn next(&self) -> Option<Delivery> {
        self.first_poll.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| self.process.started.elapsed());
            is_first
        });
        let delivery = self.incoming.lock().await.recv().await?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        Some(delivery)
    }

    /// Takes the runtime's answer. False if the instance does not have this call, or no longer has it.
    pub(crate) fn answer(&self, request_id: &str, answer: InvocationResult) -> bool {
        let mut pending = lock(&self.pending);
        match pending.take_if(|pending| pending.request_id == request_id) {
            Some(pending) => pending.reply.send(answer).is_ok(),
            None => false,
        }
    }

    /// Stores why the runtime cannot start. It exits by itself afterwards.
    pub(crate) fn fail_init(&self, report: Bytes) {
        *lock(&self.init_error) = Some(report);
    }

    pub(crate) fn view(&self) -> InstanceView {
        let first_poll = *self.first_poll.borrow();
        let state = if first_poll.is_none() {
            InstanceState::Starting
        } else if lock(&self.pending).is_some() {
            InstanceState::Busy
        } else {
            InstanceState::Idle
        };
        InstanceView {
            id: self.id,
            pid: self.process.pid,
            state,
            first_poll_us: first_poll.and_then(|after| u64::try_from(after.as_micros()).ok()),
            calls: self.calls.load(Ordering::Relaxed),
        }
    }
}

/// Instances are shared between the pool, the current call and the Runtime API.
pub(crate) type SharedInstance = Arc<Instance>;
