//! Orderly shutdown: after SIGTERM nothing new is accepted, and open work may finish within a time limit.
//!
//! On AWS a runtime without extensions gets no SIGTERM: its environment is ended while it is idle, when no work is
//! open. Emulators, containers and the local host send it.

use std::time::Duration;

use lambda_runtime::{LambdaInvocation, Runtime};
use process::stop_signal;
use tokio::sync::watch;
use tower::Service;
use tower::util::MapFutureLayer;

/// Longest wait for open work. Kubernetes kills a process after 30 s by default.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest wait, after that, until records given to Kafka are acknowledged or given up: for `KafkaPublisher::close`.
/// No caller waits for them any more; closing makes sure that the broker does not get an incomplete batch.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Polls Lambda's Runtime API until the process is asked to stop, and then finishes the open invocation. Its answer is
/// sent before this returns, unless that takes longer than [`DRAIN_TIMEOUT`].
///
/// # Errors
/// An error of the runtime, which ends it.
pub(crate) async fn run<S>(runtime: Runtime<S>) -> Result<(), lambda_runtime::Error>
where
    S: Service<LambdaInvocation, Response = (), Error = lambda_runtime::Error>,
{
    // One invocation at a time, as on Lambda.
    let busy = watch::Sender::new(false);
    let mut watched = busy.subscribe();
    let stop = stop_signal();
    let stopped = async move {
        stop.await;
        tracing::info!("stopping the function: finishing the open invocation");
        if tokio::time::timeout(DRAIN_TIMEOUT, watched.wait_for(|busy| !busy)).await.is_err() {
            tracing::warn!("stopped the function while an invocation was still open");
        }
    };
    // The outermost layer, so that sending the answer counts as part of the invocation.
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
