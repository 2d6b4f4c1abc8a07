//! One pass of a follower over the sandboxes of its gateway.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::memory::Memory;
use super::settled::{ListDigest, Positions, Settled, StoredDrafts};
use super::store::{self, Stamp};
use super::{drafts, gateway_policy, logs, mode, pins, state};
use crate::ctx::{Ctx, Tx};
use crate::db::leases::{self, Lease};
use crate::db::types::{GatewayRef, SandboxName, SandboxRef};
use crate::error::{Error, ResourceKind};
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::resources::approvals::drafts::hints;
use crate::resources::approvals::drafts::open::OPEN_OF_GATEWAY_MAX;
use crate::resources::approvals::drafts::rejections::store::{self as rejected, Rejection};

/// Rejections that one pass sends.
const REJECTIONS_MAX: i64 = 500;
/// Number of rounds of drafts from which on a gateway is nearly full.
const NEARLY_FULL: i64 = OPEN_OF_GATEWAY_MAX / 10 * 9;
/// Calls in succession that fail before a pass continues with something else.
const FAILURES_MAX: u32 = 3;
/// Sandboxes about which one pass asks at most, for each second of its interval.
const CALLS_PER_SECOND: u64 = 20;

/// A pass in progress.
pub(super) struct Pass<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) lease: &'a Lease,
    pub(super) gateway_ref: GatewayRef,
    pub(super) gateway: Gateway,
    pub(super) memory: &'a mut Memory,
    /// Counts and versions of the stored rows about the gateway when the pass began.
    pub(super) stamp: Stamp,
    /// The list of the gateway, if all of it is stored.
    pub(super) list: Option<ListDigest>,
    /// The positions of the sandboxes in that list.
    pub(super) positions: Option<Positions>,
    /// Stored rows about the drafts of the gateway.
    pub(super) stored: StoredDrafts,
    /// Rejections that the gateway does not know yet.
    pub(super) rejections: HashMap<SandboxName, Vec<Rejection>>,
    /// Sandboxes that were concerned by calls.
    pub(super) hinted: HashSet<SandboxName>,
    /// Whether something was written, or may have been.
    has_written: AtomicBool,
    /// When no more drafts are read, so that time is left for what comes after them.
    drafts_until: Instant,
}

impl<'a> Pass<'a> {
    /// Connects to the gateway, and reads what is stored about it, as far as it may have changed since the last pass.
    /// The pass has the time `time_max`, half of it for drafts.
    pub(super) async fn begin(
        ctx: &'a Ctx,
        lease: &'a Lease,
        gateway_ref: GatewayRef,
        memory: &'a mut Memory,
        time_max: Duration,
    ) -> Result<Self, Error> {
        let drafts_until = Instant::now() + time_max / 2;
        let settled = memory.settled.take();
        let gateway = Gateway::connect(ctx.app(), &gateway_ref).await?;
        let id = gateway_ref.id;
        let mut conn = ctx.db().read().await?;
        let stamp = store::stamp(&mut conn, &gateway_ref).await?;
        let (list, positions, stored) = match settled.filter(|settled| settled.stamp == stamp) {
            Some(settled) => (Some(settled.list), Some(settled.positions), settled.drafts),
            None => (None, None, state::read_drafts(&mut conn, id, &stamp).await?),
        };
        let mut rejections: HashMap<SandboxName, Vec<Rejection>> = HashMap::new();
        if stamp.rejections.number > 0 {
            for rejection in rejected::list(&mut conn, id, REJECTIONS_MAX).await? {
                rejections.entry(rejection.sandbox()).or_default().push(rejection);
            }
        }
        drop(conn);
        let hinted = hints::take(ctx.app(), id);
        Ok(Self {
            ctx,
            lease,
            gateway_ref,
            gateway,
            memory,
            stamp,
            list,
            positions,
            stored,
            rejections,
            hinted,
            has_written: AtomicBool::new(false),
            drafts_until,
        })
    }

    /// Asks about each sandbox, then about pins, about policy and approval mode of the gateway, and for logs.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let sandboxes = state::follow(&mut self).await?;
        self.end_removed(&sandboxes).await?;
        self.follow_drafts(&sandboxes).await?;
        let checked = self.check_policies(&sandboxes).await;
        if let Err(Error::Conflict { kind: ResourceKind::Lease, .. }) = checked {
            return checked;
        }
        // Logs are last: what sandboxes write to them, however much it is, delays nothing else (T20). A check that
        // fails does not hide what they show.
        logs::read(&mut self, &sandboxes).await?;
        self.settle();
        checked
    }

    /// Remembers what was read, if nothing was to be done: the next pass reads it again only if it may have changed.
    fn settle(self) {
        let Self { memory, stamp, list, positions, mut stored, has_written, .. } = self;
        if let (Some(list), Some(positions), false) = (list, positions, has_written.into_inner()) {
            stored.limit();
            memory.settled = Some(Settled { stamp, list, positions, drafts: stored });
        }
    }

    /// Lists the sandboxes.
    ///
    /// # Errors
    /// Those of the gateway.
    pub(super) async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        self.wait().await;
        let sandboxes = self.gateway.list_sandboxes(None).await;
        self.spend();
        sandboxes
    }

    /// Looks for policies and modes that differ from what was decided.
    async fn check_policies(&mut self, sandboxes: &[Sandbox]) -> Result<(), Error> {
        pins::compare(self, sandboxes).await?;
        gateway_policy::check(self, sandboxes).await?;
        mode::check(self, sandboxes).await
    }

    /// Asks about the drafts of the sandboxes. A sandbox that cannot be read comes last from then on: what it does to
    /// the answers about it must not keep the follower from the others.
    async fn follow_drafts(&mut self, sandboxes: &[Sandbox]) -> Result<(), Error> {
        let mut failures = Failures::default();
        for group in drafts::groups(self, &self.in_order(sandboxes)) {
            // The next pass begins with those that are left.
            if Instant::now() >= self.drafts_until {
                break;
            }
            let asked = drafts::ask(self, &group).await;
            for (sandbox, asked) in group.into_iter().zip(asked) {
                let outcome = match asked {
                    Ok(asked) => drafts::follow(self, sandbox, asked).await,
                    Err(error) => Err(error),
                };
                let memory = self.memory.sandboxes.entry(sandbox.full_name.clone()).or_default();
                memory.note_outcome(outcome.is_ok());
                if failures.add(outcome, &sandbox.full_name)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns the sandboxes in the order in which they are read: those of calls, then those with something open, those
    /// with fewer rounds first, then the others, the longest unread first; those that could not be read last.
    /// If the gateway is nearly full, those with fewer rounds come first in any case: they get the places that are
    /// left. If there are more than one pass reads, a quarter of the calls is for those that are unread the longest.
    fn in_order<'s>(&self, sandboxes: &'s [Sandbox]) -> Vec<&'s Sandbox> {
        let is_due = |sandbox: &&Sandbox| {
            let memory = self.memory.sandboxes.get(&sandbox.full_name);
            self.hinted.contains(&sandbox.full_name)
                || !memory.is_some_and(super::memory::SandboxMemory::is_too_early)
        };
        let mut due: Vec<&Sandbox> = sandboxes.iter().filter(is_due).collect();
        let is_nearly_full = self.stored.open.values().sum::<i64>() >= NEARLY_FULL;
        due.sort_by_cached_key(|sandbox| {
            let name = &sandbox.full_name;
            let open = self.stored.open.get(name).copied().unwrap_or_default();
            let memory = self.memory.sandboxes.get(name);
            let class = if memory.is_some_and(|memory| memory.has_failed) {
                3_u8
            } else if is_nearly_full || self.hinted.contains(name) {
                0
            } else if open > 0 || self.rejections.contains_key(name) {
                1
            } else {
                2
            };
            (class, open, memory.and_then(|memory| memory.read_at))
        });
        let seconds = self.ctx.app().config.policies.follow_interval().as_secs().max(1);
        let calls = usize::try_from(seconds.saturating_mul(CALLS_PER_SECOND)).unwrap_or(usize::MAX);
        let read_at = |sandbox: &&Sandbox| {
            self.memory.sandboxes.get(&sandbox.full_name).and_then(|memory| memory.read_at)
        };
        with_longest_unread(due, calls, read_at)
    }

    /// Ends the rounds of sandboxes that are not listed any more.
    async fn end_removed(&mut self, sandboxes: &[Sandbox]) -> Result<(), Error> {
        let listed: HashSet<&SandboxName> =
            sandboxes.iter().map(|sandbox| &sandbox.full_name).collect();
        self.memory.sandboxes.retain(|name, _| listed.contains(name));
        self.memory.modes.retain(|name, _| listed.contains(name));
        let stored =
            self.stored.open.keys().chain(self.rejections.keys()).chain(&self.stored.noted);
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
                Err(error) if ends_pass(&error) => return Err(error),
                // A name of which the gateway says nothing keeps its rounds.
                Err(error) => {
                    let sandbox = name.to_string();
                    debug!(sandbox, error = &error as &dyn std::error::Error, "not found out");
                }
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
        self.memory.pace.wait(1).await;
    }

    /// Counts what the calls since the last one have used. Returns the bytes.
    pub(super) fn spend(&self) -> usize {
        let usage = self.gateway.take_usage();
        self.memory.pace.spend(usage);
        usage.bytes
    }

    /// Proves the lease in a transaction that writes.
    pub(super) async fn check_held(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        self.note_written();
        leases::check_held(tx, self.lease).await
    }

    /// Notes that something may be written: what was read is not used any more.
    pub(super) fn note_written(&self) {
        self.has_written.store(true, Ordering::Relaxed);
    }

    /// Returns whether something was written, or may have been. Otherwise, what the pass began with is still valid.
    pub(super) fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Relaxed)
    }
}

/// Returns the first ones, at most `calls`: by their order, and a quarter of them by what was read the longest ago.
fn with_longest_unread<T, K: Ord>(
    mut due: Vec<T>,
    calls: usize,
    read_at: impl Fn(&T) -> K,
) -> Vec<T> {
    if due.len() > calls {
        let by_order = calls - calls / 4;
        due[by_order..].sort_by_cached_key(read_at);
        due.truncate(calls);
    }
    due
}

/// Failures of calls about single sandboxes, in succession.
#[derive(Debug, Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// Counts the outcome of a call about a sandbox. Returns true if the gateway or the database seems not to answer about
    /// any.
    ///
    /// # Errors
    /// That another replica follows the gateway.
    pub(super) fn add(
        &mut self,
        outcome: Result<(), Error>,
        sandbox: &SandboxName,
    ) -> Result<bool, Error> {
        let error = match outcome {
            Ok(()) => {
                self.0 = 0;
                return Ok(false);
            }
            Err(error @ Error::Conflict { kind: ResourceKind::Lease, .. }) => return Err(error),
            Err(error) => error,
        };
        // A row of one sandbox that cannot be read must not end the pass; a database that fails ends this part of it.
        let may_repeat = ends_pass(&error) || matches!(error, Error::Internal(_));
        self.0 = if may_repeat { self.0 + 1 } else { 0 };
        let sandbox = sandbox.to_string();
        debug!(sandbox, error = &error as &dyn std::error::Error, "not followed");
        Ok(self.0 >= FAILURES_MAX)
    }
}

/// Whether an error about one sandbox may concern the others, too: the gateway does not answer, or another replica
/// follows it.
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

    fn name(name: &str) -> SandboxName {
        SandboxName { workspace: "default".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_quarter_of_a_pass_is_for_what_was_not_read_for_long() {
        // Those at the end were read before the others.
        let due = |count: u32| (0..count).collect::<Vec<u32>>();
        let read_at = |of: &u32| 1_000 - of;
        assert_eq!(with_longest_unread(due(8), 8, read_at), due(8));
        assert_eq!(with_longest_unread(due(100), 8, read_at), [0, 1, 2, 3, 4, 5, 99, 98]);
        assert!(with_longest_unread(due(3), 0, read_at).is_empty());
    }

    #[test]
    fn a_gateway_that_does_not_answer_about_three_sandboxes_is_left_alone() {
        let late = || Err(Error::DeadlineExceeded { why: String::new() });
        let missing = || Err(Error::not_found(ResourceKind::Sandbox, "a"));
        let mut failures = Failures::default();
        for (outcome, expected) in [
            (late(), false),
            (late(), false),
            (Ok(()), false),
            (late(), false),
            (late(), false),
            (missing(), false),
            (late(), false),
            (late(), false),
            (late(), true),
        ] {
            assert_eq!(failures.add(outcome, &name("a")).unwrap(), expected);
        }
        let lost = Error::conflict(ResourceKind::Lease, "follow/1");
        assert!(failures.add(Err(lost), &name("a")).is_err());
        let mut failures = Failures::default();
        for expected in [false, false, true] {
            let unreadable = Err(Error::internal("a stored content that is not complete"));
            assert_eq!(failures.add(unreadable, &name("a")).unwrap(), expected);
        }
    }

    #[test]
    fn a_fault_of_one_sandbox_does_not_end_a_pass() {
        assert!(!ends_pass(&Error::internal("a stored content that is not complete")));
        assert!(!ends_pass(&Error::invalid("rule", "is malformed")));
        assert!(ends_pass(&Error::conflict(ResourceKind::Lease, "follow/1")));
        assert!(ends_pass(&Error::DeadlineExceeded { why: "late".to_owned() }));
    }
}
