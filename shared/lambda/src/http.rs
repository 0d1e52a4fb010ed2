//! Serving an HTTP function: an axum router on Lambda behind API Gateway, a function URL or a load balancer, or on
//! plain HTTP.

use std::time::Instant;

use axum::Router;
use lambda_runtime::layers::TracingLayer;
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use pipeline::chain;
use pipeline::clock::{Clock as _, SystemClock};
use serde_json::value::RawValue;
use settings::ProcessEnvironment;

use crate::http_trigger;
use crate::observed;
use crate::plain::serve_plain;
use crate::platform::{Platform, ServeError, deadline_instant};
use crate::shutdown;
use crate::start::{end_invocation, serving};

pub use crate::surroundings::{AnswerLimit, Deadline, Peer, Stopping};

/// Serves `router` until the process is asked to stop, and then finishes the open requests (see [`crate::shutdown`]).
///
/// A request has its [`Peer`] in its extensions, and on Lambda its [`Deadline`] and the [`AnswerLimit`],
/// elsewhere [`Stopping`].
///
/// # Errors
/// [`ServeError`] if the settings are bad or the port is taken.
pub async fn serve(router: Router) -> Result<(), ServeError> {
    let platform = Platform::detect(&ProcessEnvironment)?;
    let router = observed::requests(router);
    serving();
    match platform {
        Platform::Lambda => {
            let service = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
                let router = router.clone();
                async move {
                    let deadline = deadline_instant(event.context.deadline, SystemClock.now(), Instant::now());
                    let answer = http_trigger::answer(router, event.payload.get(), Some(Deadline(deadline))).await;
                    end_invocation(deadline).await;
                    answer.map_err(|error| {
                        let (error_type, error_message) = (error.tag().to_owned(), chain(&error));
                        tracing::error!(error_type, error = error_message, "invocation failed");
                        Diagnostic { error_type, error_message }
                    })
                }
            });
            let runtime = Runtime::new(service).layer(TracingLayer::new());
            shutdown::run(runtime).await.map_err(ServeError::Lambda)
        }
        Platform::Http { address, timeout: _, limits } => serve_plain(address, limits, router).await,
    }
}
