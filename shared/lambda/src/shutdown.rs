//! Ending in order: after SIGTERM nothing new is taken, and what is under way may finish, within a bounded time.
//!
//! On AWS a runtime without extensions gets no SIGTERM: its environment is ended while it is idle, and nothing is under
//! way then. Emulators, containers and the local host send it.

use std::time::Duration;

use lambda_runtime::{LambdaInvocation, Runtime};
use process::stop_signal;
use tokio::sync::watch;
use tower::Service;
use tower::util::MapFutureLayer;

/// Longest wait for what is under way. Kubernetes kills after 30 s by default.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest wait, after that, until records handed to Kafka are acknowledged or given up: for
/// `KafkaPublisher::close`. Nobody waits for them any more; closing keeps the broker from seeing a torn batch.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Polls Lambda's Runtime API until the process is asked to stop, and then finishes the invocation under way: its answer
/// is out before this returns, unless that takes longer than [`DRAIN_TIMEOUT`].
///
/// # Errors
/// The runtime's own, which ends it.
pub(crate) async fn run<S>(runtime: Runtime<S>) -> Result<(), lambda_runtime::Error>
where
    S: Service<LambdaInvocation, Response = (), Error = lambda_runtime::Error>,
{
    // One invocation at a time, as Lambda has it.
    let busy = watch::Sender::new(false);
    let mut watched = busy.subscribe();
    let stop = stop_signal();
    let stopped = async move {
        stop.await;
        tracing::info!("stopping: finishing the invocation under way");
        if tokio::time::timeout(DRAIN_TIMEOUT, watched.wait_for(|busy| !busy)).await.is_err() {
            tracing::warn!("stopped with an invocation still under way");
        }
    };
    // The outermost layer, so that sending the answer is part of the invocation.
    let watching = MapFutureLayer::new(move |invocation: S::Future| {
        let busy = busy.clone();
        async move {
            busy.send_replace(true);
            let answer = invocation.await;
            busy.send_replace(false);
            answer
        }
    });
    tokio::select! {
        biased;
        () = stopped => Ok(()),
        ended = runtime.layer(watching).run() => ended,
    }
}
