//! Gateways with a policy for all sandboxes. It prevents the writes of changes under review, which their voters see.
//!
//! Invariant: nothing is stored unless the gateway has answered. Without a review, a gateway is not asked.

use futures_util::future::BoxFuture;
use tracing::debug;

use super::pass::{Pass, ends_pass};
use super::store;
use crate::error::Error;
use crate::openshell::policies::PolicySource;
use crate::openshell::sandbox::Sandbox;

/// Sandboxes that one pass asks about, until one of them is answered. All have the same answer.
const TRIES: usize = 3;

/// Stores whether the gateway has a policy for all sandboxes, while a change is under review.
///
/// # Errors
/// Those of the database, and that another replica follows the gateway.
pub(super) fn check<'a>(
    pass: &'a Pass<'_>,
    sandboxes: &'a [Sandbox],
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let (ctx, id) = (pass.ctx, pass.gateway_ref.id);
        let (has_reviews, had_policy) = if pass.has_written() {
            let mut conn = ctx.db().read().await?;
            let has_reviews = store::has_reviews(&mut conn, id).await?;
            (has_reviews, store::global_policy_since(&mut conn, id).await?.is_some())
        } else {
            (pass.stamp.rounds.with_sandbox_id > 0, pass.stamp.followed.marked > 0)
        };
        let found = if has_reviews { read(pass, sandboxes).await } else { Some(false) };
        let Some(is_set) = found.filter(|found| *found != had_policy) else {
            return Ok(());
        };
        ctx.transaction(async |tx| {
            pass.check_held(tx).await?;
            let now = ctx.db().now(tx).await?;
            store::set_global_policy(tx, id, is_set.then_some(now)).await
        })
        .await
    })
}

/// Returns whether the gateway has a policy for all sandboxes; `None` if that is not known.
async fn read(pass: &Pass<'_>, sandboxes: &[Sandbox]) -> Option<bool> {
    // Reading the policy in force of a sandbox without a policy would make some gateways write a revision.
    let with_policy = sandboxes.iter().filter(|sandbox| sandbox.policy_version > 0);
    for sandbox in with_policy.take(TRIES) {
        pass.wait().await;
        let effective = pass.gateway.effective_policy(&sandbox.full_name).await;
        pass.spend();
        match effective {
            Ok(effective) => return Some(effective.source == PolicySource::Gateway),
            Err(error) => {
                let sandbox = sandbox.full_name.to_string();
                debug!(sandbox, error = &error as &dyn std::error::Error, "not known");
                if ends_pass(&error) {
                    return None;
                }
            }
        }
    }
    None
}
