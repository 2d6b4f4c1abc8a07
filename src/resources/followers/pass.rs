//! One pass of a follower over the sandboxes of its gateway.

use std::collections::{HashMap, HashSet};

use tracing::debug;

use super::memory::Memory;
use super::{drafts, logs, mode, pins, state};
use crate::ctx::{Ctx, Tx};
use crate::db::leases::{self, Lease};
use crate::db::types::{GatewayRef, SandboxName, SandboxRef};
use crate::error::{Error, ResourceKind};
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::resources::approvals::drafts::open::OPEN_OF_GATEWAY_MAX;
use crate::resources::approvals::drafts::{hints, store as stored};

/// Rejections that one pass sends.
const REJECTIONS_MAX: i64 = 500;
/// Number of rounds of drafts from which on a gateway is nearly full.
const NEARLY_FULL: i64 = OPEN_OF_GATEWAY_MAX / 10 * 9;
/// Calls that one pass makes at most for each second of its interval.
const CALLS_PER_SECOND: u64 = 20;

/// A pass in progress.
pub(super) struct Pass<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) lease: &'a Lease,
    pub(super) gateway_ref: GatewayRef,
    pub(super) gateway: Gateway,
    pub(super) memory: &'a mut Memory,
    /// Number of rounds of drafts that have not ended, of the sandboxes that have some.
    pub(super) open: HashMap<SandboxName, i64>,
    /// Rejections that the gateway does not know yet.
    pub(super) rejections: HashMap<SandboxName, Vec<stored::Rejection>>,
    /// Sandboxes of which something is stored.
    pub(super) noted: HashSet<SandboxName>,
    /// Sandboxes that were concerned by calls.
    pub(super) hinted: HashSet<SandboxName>,
}

impl<'a> Pass<'a> {
    /// Connects to the gateway, and reads what is stored about it.
    pub(super) async fn begin(
        ctx: &'a Ctx,
        lease: &'a Lease,
        gateway_ref: GatewayRef,
        memory: &'a mut Memory,
    ) -> Result<Self, Error> {
        let gateway = Gateway::connect(ctx.app(), &gateway_ref).await?;
        let id = gateway_ref.id;
        let mut conn = ctx.db().read().await?;
        let open = stored::open_by_sandbox(&mut conn, id).await?.into_iter().collect();
        let mut rejections: HashMap<SandboxName, Vec<stored::Rejection>> = HashMap::new();
        for rejection in stored::rejections(&mut conn, id, REJECTIONS_MAX).await? {
            rejections.entry(rejection.sandbox()).or_default().push(rejection);
        }
        let noted = stored::sandboxes_with_state(&mut conn, id).await?;
        drop(conn);
        let hinted = hints::take(ctx.app(), id);
        Ok(Self { ctx, lease, gateway_ref, gateway, memory, open, rejections, noted, hinted })
    }

    /// Asks about each sandbox, then for their logs, and about pins and the approval mode.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let known = state::read(&self).await?;
        self.wait().await;
        let sandboxes = self.gateway.list_sandboxes(None).await;
        self.spend();
        let sandboxes = sandboxes?;
        state::compare(&mut self, known, &sandboxes).await?;
        self.end_removed(&sandboxes).await?;
        let mut calls = self.ctx.app().config.policies.follow_interval().as_secs();
        calls = calls.saturating_mul(CALLS_PER_SECOND).max(CALLS_PER_SECOND);
        for sandbox in self.in_order(&sandboxes) {
            if calls == 0 {
                break;
            }
            calls = calls.saturating_sub(1);
            match drafts::follow(&mut self, sandbox).await {
                Ok(()) => {}
                Err(error) if ends_pass(&error) => return Err(error),
                Err(error) => {
                    let sandbox = sandbox.full_name.to_string();
                    debug!(sandbox, error = &error as &dyn std::error::Error, "not followed");
                }
            }
        }
        logs::read(&mut self, &sandboxes).await?;
        pins::compare(&mut self, &sandboxes).await?;
        mode::check(&mut self, &sandboxes).await
    }

    /// Returns the sandboxes in the order in which they are read: those of calls, then those with something open, those
    /// with fewer rounds first, then the others, the longest unread first. If the gateway is nearly full, those with
    /// fewer rounds come first in any case: they get the places that are left.
    fn in_order<'s>(&self, sandboxes: &'s [Sandbox]) -> Vec<&'s Sandbox> {
        let is_due = |sandbox: &&Sandbox| {
            let memory = self.memory.sandboxes.get(&sandbox.full_name);
            self.hinted.contains(&sandbox.full_name)
                || !memory.is_some_and(super::memory::SandboxMemory::is_too_early)
        };
        let mut due: Vec<&Sandbox> = sandboxes.iter().filter(is_due).collect();
        let is_nearly_full = self.open.values().sum::<i64>() >= NEARLY_FULL;
        due.sort_by_cached_key(|sandbox| {
            let name = &sandbox.full_name;
            let open = self.open.get(name).copied().unwrap_or_default();
            let class = if is_nearly_full || self.hinted.contains(name) {
                0_u8
            } else if open > 0 || self.rejections.contains_key(name) {
                1
            } else {
                2
            };
            let read_at = self.memory.sandboxes.get(name).and_then(|memory| memory.read_at);
            (class, open, read_at)
        });
        due
    }

    /// Ends the rounds of sandboxes that are not listed any more.
    async fn end_removed(&mut self, sandboxes: &[Sandbox]) -> Result<(), Error> {
        let listed: HashSet<&SandboxName> =
            sandboxes.iter().map(|sandbox| &sandbox.full_name).collect();
        self.memory.sandboxes.retain(|name, _| listed.contains(name));
        self.memory.modes.retain(|name, _| listed.contains(name));
        let stored = self.open.keys().chain(self.rejections.keys()).chain(&self.noted);
        let gone: HashSet<SandboxName> =
            stored.filter(|name| !listed.contains(*name)).cloned().collect();
        for name in gone {
            self.wait().await;
            let found = self.gateway.get_sandbox(&name).await;
            self.spend();
            match found {
                Err(Error::NotFound { kind: ResourceKind::Sandbox, .. }) => {
                    drafts::end_all(self, &name).await?;
                }
                // It was created since the list was read.
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the place of a sandbox.
    pub(super) fn place(&self, name: &SandboxName) -> SandboxRef {
        SandboxRef { gateway: self.gateway_ref.clone(), name: name.clone() }
    }

    /// Waits until the next call is due.
    pub(super) async fn wait(&self) {
        self.memory.pace.wait().await;
    }

    /// Counts what the calls since the last one have used. Returns the bytes.
    pub(super) fn spend(&self) -> usize {
        let usage = self.gateway.take_usage();
        self.memory.pace.spend(usage);
        usage.bytes
    }

    /// Proves the lease in a transaction.
    pub(super) async fn check_held(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        leases::check_held(tx, self.lease).await
    }
}

/// Whether an error about one sandbox concerns the others, too: the gateway does not answer, or another replica follows
/// it.
pub(super) fn ends_pass(error: &Error) -> bool {
    match error {
        Error::Conflict { kind: ResourceKind::Lease, .. }
        | Error::Unavailable { .. }
        | Error::Exhausted { .. }
        | Error::DeadlineExceeded { .. } => true,
        // A stored row of one sandbox that cannot be read must not end the pass before logs and pins are read.
        Error::Internal(_)
        | Error::Conflict { .. }
        | Error::Invalid { .. }
        | Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Refused { .. }
        | Error::Explained { .. }
        | Error::Denied { .. }
        | Error::Unauthenticated { .. }
        | Error::OutOfRange { .. }
        | Error::Gateway { .. }
        | Error::Unimplemented { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_one_sandbox_does_not_end_a_pass() {
        assert!(!ends_pass(&Error::internal("a stored content that is not complete")));
        assert!(!ends_pass(&Error::invalid("rule", "is malformed")));
        assert!(ends_pass(&Error::conflict(ResourceKind::Lease, "follow/1")));
        assert!(ends_pass(&Error::DeadlineExceeded { why: "late".to_owned() }));
    }
}
