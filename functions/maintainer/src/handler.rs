//! Carries out a request.

use std::num::NonZeroU32;
use std::time::Duration;

use lambda::invocation::{Invocation, InvocationError};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::app::App;
use crate::error::MaintainerError;
use crate::request::{Request, RevokedKey};
use crate::{api_keys, block_list, upkeep};

/// Most ranges of missing offsets in an answer, for each log: an answer of Lambda has at most 6 MB.
const MAX_RANGES: usize = 100;

/// Carries out one request, and answers with what was done.
///
/// # Errors
/// If the request is invalid, or a dependency fails. Work done before stays done, and the request may be repeated.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    let (request, by) = Request::parse(event).map_err(MaintainerError::from)?;
    // Lambda may cut off a long action, which can be repeated. Without any time left, it is better not to begin.
    if invocation.remaining(Duration::ZERO).is_zero() {
        return Err(MaintainerError::OutOfTime.into());
    }
    let action = request.action();
    tracing::info!(request_id = invocation.request_id, action, by = by.as_deref(), "carrying out a maintainer action");
    // Boxed, because one future type for all actions is nested too deeply for the compiler.
    Ok(Box::pin(carry_out(request, app)).await?)
}

async fn carry_out(request: Request, app: &App) -> Result<Box<RawValue>, MaintainerError> {
    let now = app.clock.now();
    let answer = match request {
        Request::Maintain {} => to_raw_value(&upkeep::maintain(app).await?),
        Request::Block { address, reason, for_sec } => {
            let until = for_sec.map(|seconds| now.plus(Duration::from_secs(seconds.get())));
            let block = block_list::block(&*app.blocks, address, reason.into(), until).await?;
            to_raw_value(&json!({ "blocked": block }))
        }
        Request::Unblock { address } => {
            let was_blocked = block_list::unblock(&*app.blocks, address).await?;
            to_raw_value(&json!({ "address": address, "was_blocked": was_blocked }))
        }
        Request::ListBlocks {} => to_raw_value(&json!({ "blocks": block_list::list(&*app.blocks, now).await? })),
        Request::CreateKey { tenant, name, trusted_collector, rate_limit_per_min } => {
            let limit = rate_limit_per_min.map(NonZeroU32::get);
            to_raw_value(&api_keys::create(&*app.keys, tenant, name.into(), trusted_collector, limit).await?)
        }
        Request::RevokeKey(RevokedKey { hash }) => {
            api_keys::revoke(&*app.keys, hash).await?;
            to_raw_value(&json!({ "key_hash": hash.to_string(), "revoked": true }))
        }
        Request::Reconcile {} => {
            let mut account = upkeep::reconcile(app).await?;
            account.partitions.iter_mut().for_each(|partition| partition.missing.truncate(MAX_RANGES));
            to_raw_value(&json!({ "unaccounted": account.unaccounted(), "partitions": account.partitions }))
        }
    };
    answer.map_err(MaintainerError::Answer)
}
