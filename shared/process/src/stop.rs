//! The signals that ask a process to stop.

/// Completes at SIGTERM or SIGINT. After this call neither signal ends the process by itself, even if the future has
/// not been polled yet, because the task that polls it may start only after the first request.
///
/// # Panics
/// Outside a tokio runtime.
pub fn stop_signal() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                // Without handlers the default action of the signals still ends the process.
                tracing::error!(%error, "cannot listen for SIGTERM and SIGINT: either signal ends the process at once");
                std::future::pending::<()>().await;
            }
        }
    }
}
