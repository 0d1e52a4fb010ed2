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

/// Polls Lambda's Runtime API until the process is asked to stop, and then finishes the open invocations. Their answers are
/// sent before this returns, unless that takes longer than [`DRAIN_TIMEOUT`].
///
/// One invocation at a time, unless `AWS_LAMBDA_MAX_CONCURRENCY` says that the platform sends several: Lambda Managed
/// Instances set it, and so may users of the Runtime Interface Emulator.
///
/// # Errors
/// An error of the runtime, which ends it.
pub(crate) async fn run<S>(runtime: Runtime<S>) -> Result<(), lambda_runtime::Error>
where
    S: Service<LambdaInvocation, Response = (), Error = lambda_runtime::Error> + Clone + Send + 'static,
    S::Future: Send,
{
    let open = watch::Sender::new(0_usize);
    let mut watched = open.subscribe();
    let stop = stop_signal();
    let stopped = async move {
        stop.await;
        tracing::info!("stopping the function: finishing the open invocations");
        if tokio::time::timeout(DRAIN_TIMEOUT, watched.wait_for(|open| *open == 0)).await.is_err() {
            tracing::warn!("stopped the function while an invocation was still open");
        }
    };
    // The outermost layer, so that sending the answer counts as part of the invocation.
    let watching = MapFutureLayer::new(move |invocation: S::Future| {
        let open = open.clone();
        async move {
            open.send_modify(|open| *open += 1);
            let answer = invocation.await;
            open.send_modify(|open| *open -= 1);
            answer
        }
    });
    tokio::select! {
        biased;
        () = stopped => Ok(()),
        ended = runtime.layer(watching).run_concurrent() => ended,
    }
}
