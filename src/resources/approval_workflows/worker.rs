//! Reports workflows that can no longer be met, because voters have left.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::store;
use crate::ctx::{Ctx, GatewayRef};
use crate::db::leases::{self, Lease};
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::governance::{People, Shortfall, shortfall};
use crate::outbox::event_types;
use crate::resources::stored_rules::domain::{StoredWorkflow, all_workflows, workflow_payload};
use crate::workers::{TickResult, Worker};

/// Worker that asks again whether each workflow can be met when access data has changed. All workflows are checked in
/// one tick, since their number is limited.
pub const BROKEN: Worker = Worker {
    name: "approval-workflow-checks",
    interval: |_| Duration::from_secs(5),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(check_all(ctx, lease)),
};
/// Number of ticks after which the workflows are checked even without a change of access data, since keys of service
/// principals expire: a minute.
const UNCHANGED_TICKS_MAX: i64 = 12;

/// State of the checks by this replica.
#[derive(Debug, Default)]
pub struct CheckedWorkflows {
    /// Revision of the access data.
    revision: AtomicI64,
    /// Ticks since then without a change, the check included; 0 before the first check.
    unchanged_ticks: AtomicI64,
}

impl CheckedWorkflows {
    /// Returns whether a check is due at a revision of the access data.
    fn is_due(&self, revision: i64) -> bool {
        let is_changed = self.revision.swap(revision, Ordering::Relaxed) != revision;
        let unchanged = self.unchanged_ticks.fetch_add(1, Ordering::Relaxed);
        let is_due = is_changed || unchanged == 0 || unchanged >= UNCHANGED_TICKS_MAX;
        if is_due {
            self.unchanged_ticks.store(1, Ordering::Relaxed);
        }
        is_due
    }

    /// Notes that a check has failed: the next tick repeats it.
    fn retry(&self) {
        self.unchanged_ticks.store(0, Ordering::Relaxed);
    }
}

async fn check_all(ctx: &Ctx, lease: Option<&Lease>) -> Result<TickResult, Error> {
    let app = ctx.app();
    // Old access data would report voters as missing, or hide that they are.
    app.snapshot.check_fresh()?;
    let checked = app.part::<CheckedWorkflows>();
    if !checked.is_due(app.snapshot.revision()) {
        return Ok(TickResult::IDLE);
    }
    let done = check_each(ctx, lease).await.inspect_err(|_| checked.retry())?;
    Ok(TickResult { done, more: false })
}

/// Returns the number of workflows whose state has changed.
async fn check_each(ctx: &Ctx, lease: Option<&Lease>) -> Result<usize, Error> {
    let workflows = all_workflows(&mut ctx.db().read().await?).await?;
    let snapshot = &ctx.app().snapshot;
    let mut people: HashMap<GatewayId, People> = HashMap::new();
    let mut changed = 0;
    for stored in &workflows {
        // Workflows are deleted with their gateway.
        let Some(id) = snapshot.gateway_id(&stored.gateway) else { continue };
        // A rule that cannot be read is shown as such.
        let Some(rule) = stored.rule() else { continue };
        let people = people.entry(id).or_insert_with(|| People::on_gateway(snapshot, id));
        let lacking = shortfall(&rule, people, None);
        if lacking.is_some() == stored.broken_since.is_some() {
            continue;
        }
        let gateway = GatewayRef { id, name: stored.gateway.as_str().into() };
        note(ctx, lease, &gateway, stored, lacking).await?;
        changed += 1;
    }
    Ok(changed)
}

/// Stores that a workflow can no longer be met, with its event, or that it can be met again.
async fn note(
    ctx: &Ctx,
    lease: Option<&Lease>,
    gateway: &GatewayRef,
    stored: &StoredWorkflow,
    lacking: Option<Shortfall>,
) -> Result<(), Error> {
    ctx.transaction(async |tx| {
        if let Some(lease) = lease {
            leases::check_held(tx, lease).await?;
        }
        let Some(lacking) = lacking else {
            return store::clear_broken(tx, stored.id, stored.version).await;
        };
        let now = ctx.db().now(tx).await?;
        if !store::set_broken(tx, stored.id, stored.version, now).await? {
            return Ok(());
        }
        let payload = broken_payload(stored, &lacking);
        let event = ctx.new_event(event_types::APPROVAL_WORKFLOW_BROKEN, payload);
        tx.emit(event.with_gateway(gateway.clone())).await
    })
    .await
}

fn broken_payload(stored: &StoredWorkflow, lacking: &Shortfall) -> Value {
    let mut payload = workflow_payload(&stored.gateway, stored.id, &stored.scope);
    payload["group"] = lacking.group.as_str().into();
    payload["need"] = lacking.need.into();
    payload["have"] = lacking.have.into();
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflows_are_checked_at_the_start_after_changes_and_after_a_while() {
        let checked = CheckedWorkflows::default();
        assert!(checked.is_due(0) && !checked.is_due(0));
        assert!(checked.is_due(7) && !checked.is_due(7));
        checked.retry();
        assert!(checked.is_due(7));
        let due = (0..UNCHANGED_TICKS_MAX).filter(|_| checked.is_due(7)).count();
        assert_eq!(due, 1);
    }
}
