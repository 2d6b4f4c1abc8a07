//! Connections for Shoreguard's own calls to a gateway, and the checks of the methods that are called on them.
//!
//! Invariants
//! - a handle has one generation: a connection that was probed with another one is rejected;
//! - the outcome of a write without a response is unknown until it is reported or found out;
//! - unary calls share one connection for as long as it is open, streaming calls use others;
//! - what a handle notes of a call is that of its last one: reads at the same time use duplicates of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::gateway::Gateway;
use super::sandbox::unreadable;
use super::terms::Terms;
use crate::access::policy::{AuditMode, UpstreamPolicy, find_upstream_policy};
use crate::ctx::Ctx;
use crate::error::{Error, Reason};
use crate::status::code_and_reason;
use crate::upstream::budget::BudgetClass;
use crate::upstream::capability;
use crate::upstream::connection::{Connection, Lease};
use crate::upstream::lane::Lane;
use crate::upstream::unanswered::OutcomeUnknown;

/// What unary calls of a handle have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of calls.
    pub calls: u32,
    /// Bytes of their responses.
    pub bytes: usize,
}

impl Gateway {
    /// Counts the streams of this handle against the caller of `ctx`, checks that caller again right before a write is
    /// sent, and reports to `ctx` when the gateway may have acted.
    #[must_use]
    pub fn on_behalf_of(mut self, ctx: &Ctx) -> Self {
        self.on_behalf = Some(Arc::new(ctx.clone()));
        self.outcome_unknown = ctx.unanswered();
        self
    }

    /// Returns a handle for a read at the same time, on the same connection. Messages of responses that are larger than
    /// `message_bytes_max` bytes, which is at most the maximum of others, are not read.
    #[must_use]
    pub fn duplicate_for_read(&self, message_bytes_max: usize) -> Self {
        Self {
            app: Arc::clone(&self.app),
            target: Arc::clone(&self.target),
            generation: self.generation,
            lease: Mutex::new(self.lock_lease().duplicate()),
            on_behalf: self.on_behalf.clone(),
            maybe_processed: AtomicBool::new(false),
            message_bytes_max: message_bytes_max.min(self.message_bytes_max),
            was_too_large: AtomicBool::new(false),
            usage: Mutex::default(),
            outcome_unknown: OutcomeUnknown::default(),
        }
    }

    /// Makes further calls as the server's own: they undo what was done for a caller, even if it has lost its access.
    #[must_use]
    pub(crate) fn on_own_behalf(self) -> Self {
        Self { on_behalf: None, ..self }
    }

    /// Returns the error for a gateway that does not answer.
    pub(super) fn unreachable(&self) -> Error {
        Connection::unreachable(&self.target.name)
    }

    /// Whether a method changes something on the gateway.
    pub(super) fn is_write(&self, path: &str) -> bool {
        self.guard(path).is_some_and(|guard| guard.audit == AuditMode::Write)
    }

    /// Returns the share of the budget that the responses of a method use.
    pub(super) fn budget_class(&self, path: &str) -> BudgetClass {
        BudgetClass::for_method(self.guard(path))
    }

    fn guard(&self, path: &str) -> Option<&'static UpstreamPolicy> {
        find_upstream_policy(self.generation, path)
    }

    /// Records whether the gateway reported the outcome of a request. [`Gateway::mark_outcome_known`] records that a
    /// creation was found in another way.
    pub(super) fn record_outcome<T>(
        &self,
        path: &str,
        answer: Result<T, Error>,
    ) -> Result<T, Error> {
        let is_reported = match &answer {
            Ok(_) => true,
            Err(Error::Gateway { refusal, .. }) => refusal.reports_outcome(),
            Err(error) => code_and_reason(error).1 == Reason::GatewayCredentialRefused,
        };
        if is_reported && self.is_write(path) {
            self.outcome_unknown.clear();
        }
        answer
    }

    /// Whether the last call failed because the response was larger than what is read. Meaningful after a failed call.
    pub(super) fn answer_was_too_large(&self) -> bool {
        self.was_too_large.load(Ordering::Relaxed)
    }

    /// Records that a unary call begins.
    pub(super) fn begin_call(&self) {
        self.was_too_large.store(false, Ordering::Relaxed);
        self.usage.lock().calls += 1;
    }

    /// Records the size of the message of a response.
    pub(super) fn note_size(&self, message: Option<&Bytes>, is_too_large: bool) {
        self.was_too_large.store(is_too_large, Ordering::Relaxed);
        let unread = self.message_bytes_max;
        let bytes = if is_too_large { unread } else { message.map_or(0, Bytes::len) };
        self.usage.lock().bytes += bytes;
    }

    /// Returns what the unary calls since the last question have used.
    #[must_use]
    pub fn take_usage(&self) -> Usage {
        std::mem::take(&mut *self.usage.lock())
    }

    /// Records that the outcome of the last request is known, although there was no response.
    pub(crate) fn mark_outcome_known(&self) {
        self.outcome_unknown.clear();
    }

    /// Returns the error for a response that cannot be parsed. The outcome of a write is then unknown, since the
    /// gateway may have done anything.
    pub(crate) fn unreadable(&self, path: &'static str) -> Error {
        if self.is_write(path) {
            self.outcome_unknown.set();
        }
        unreadable(self.name(), path)
    }

    /// Rejects a method that the gateway's version does not have, or that could change a policy while the configured
    /// generation contradicts the version.
    ///
    /// # Errors
    /// `METHOD_NOT_SUPPORTED` or `WIRE_CONTRADICTED`.
    pub(crate) fn check_method(&self, path: &str) -> Result<(), Error> {
        self.check_method_on(&self.lock_lease(), path)
    }

    /// Does the same for a connection on which a request is about to be sent. The caller of a write is checked again:
    /// it may have waited for the connection, or for what was read of the gateway before (T14). A forwarded request has
    /// a check of its own.
    ///
    /// # Errors
    /// Those of [`Gateway::check_method`] and of [`Ctx::recheck_call`].
    pub(super) fn check_before_sending(
        &self,
        lease: &Lease,
        path: &str,
        terms: &Terms,
    ) -> Result<(), Error> {
        self.check_method_on(lease, path)?;
        match &self.on_behalf {
            Some(ctx) if terms.is_own() && self.is_write(path) => ctx.recheck_call(),
            Some(_) | None => Ok(()),
        }
    }

    fn check_method_on(&self, lease: &Lease, path: &str) -> Result<(), Error> {
        let (probe, name) = (lease.probe(), &self.target.name);
        capability::check_method(path, name, self.generation, &probe.version)?;
        let guard = self.guard(path);
        guard.map_or(Ok(()), |guard| probe.check_effect(guard.effect, name))
    }

    /// Leases a connection. Unary calls use the same one as before, or another one if it accepts no more streams or its
    /// `connection_version` is outdated. A streaming call gets a connection of its lane.
    pub(super) async fn lease_for(&self, lane: Lane) -> Result<Lease, Error> {
        let target = self.app.fleet.targets.revalidate(&self.target)?;
        let lease = self.lock_lease().duplicate();
        if lane != Lane::Unary {
            let caller = self.on_behalf.as_ref().and_then(|ctx| ctx.principal());
            let leased = self.app.fleet.channels.lease_for(&self.target, lane, caller).await?;
            return self.check_same_generation(&lease, leased);
        }
        if lease.version() == target.connection_version && lease.is_open() {
            target.identity.ensure_credential().await?;
            return Ok(lease);
        }
        let renewed = self.app.fleet.channels.renew(&self.target, &lease).await?;
        let renewed = self.check_same_generation(&lease, renewed)?;
        *self.lock_lease() = renewed.duplicate();
        Ok(renewed)
    }

    fn check_same_generation(&self, before: &Lease, now: Lease) -> Result<Lease, Error> {
        if now.probe().generation == before.probe().generation {
            return Ok(now);
        }
        Err(Connection::changed(&self.target.name))
    }

    fn lock_lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock()
    }
}
