//! The connections that calls to a gateway on our own account go through, and what may be called on them.
//!
//! Invariants
//! - a handle speaks one generation: a connection that was probed for another one is refused;
//! - what a call has asked for and got no answer to is open until something tells;
//! - unary calls go through one shared connection for as long as it lasts, calls that stream through others.

use parking_lot::MutexGuard;

use super::Generation;
use super::gateway::Gateway;
use super::sandbox::unreadable;
use crate::access::policy::{self, Audit, Guard};
use crate::ctx::Ctx;
use crate::error::{Error, Reason, Said};
use crate::status::code_of;
use crate::upstream::budget::Draw;
use crate::upstream::capability;
use crate::upstream::connection::{Connection, Lease};
use crate::upstream::lane::Lane;

impl Gateway {
    /// Counts the streams that are opened through this handle as the caller's, and tells the call when the gateway may
    /// have acted for it.
    #[must_use]
    pub fn asked_by(mut self, ctx: &Ctx) -> Self {
        self.caller = ctx.principal();
        self.unanswered = ctx.unanswered();
        self
    }

    /// Whether a method changes something on the gateway.
    pub(super) fn acts(&self, path: &str) -> bool {
        self.guard(path).is_some_and(|guard| guard.audit == Audit::Write)
    }

    /// Returns what the answers of a method draw on.
    pub(super) fn draw(&self, path: &str) -> Draw {
        Draw::of(self.guard(path))
    }

    fn guard(&self, path: &str) -> Option<&'static Guard> {
        let table = match self.generation {
            Generation::V0_0 => policy::UPSTREAM_V0_0,
            Generation::V0_1 => policy::UPSTREAM_V0_1,
        };
        policy::upstream(table, path).and_then(|row| row.guard.as_ref())
    }

    /// Notes whether the gateway has told what became of a request. That a creation was found out otherwise is told by
    /// [`Gateway::found_out`].
    pub(super) fn told<T>(&self, path: &str, answer: Result<T, Error>) -> Result<T, Error> {
        let told = match &answer {
            Ok(_) => true,
            Err(Error::Gateway { said, .. }) => !matches!(said, Said::Uncertain | Said::Late),
            Err(error) => code_of(error).1 == Reason::GatewayCredentialRefused,
        };
        if told && self.acts(path) {
            self.unanswered.settle();
        }
        answer
    }

    /// What became of the last request is known, though it was not answered.
    pub(crate) fn found_out(&self) {
        self.unanswered.settle();
    }

    /// The answer to a request can't be read: the gateway may have done anything.
    pub(crate) fn unreadable(&self, path: &'static str) -> Error {
        if self.acts(path) {
            self.unanswered.open();
        }
        unreadable(self.name(), path)
    }

    /// Refuses a method that the gateway's version does not have, or that its generation, set by hand, is in doubt for.
    ///
    /// # Errors
    /// `METHOD_NOT_SUPPORTED` or `WIRE_CONTRADICTED`.
    pub(crate) fn permits(&self, path: &str) -> Result<(), Error> {
        self.allows(&self.held(), path)
    }

    pub(super) fn allows(&self, lease: &Lease, path: &str) -> Result<(), Error> {
        let (probe, name) = (lease.probe(), &self.target.name);
        capability::needs(path, name, self.generation, &probe.version)?;
        let guard = self.guard(path);
        guard.map_or(Ok(()), |guard| probe.governable(guard.effect, name))
    }

    /// A share of the connection that calls went through so far, or of another where that one takes no stream any more
    /// or was opened with what is no longer the gateway's. A call that streams gets a share of a connection for such calls.
    pub(super) async fn current(&self, lane: Lane) -> Result<Lease, Error> {
        let target = self.app.fleet.targets.still(&self.target)?;
        let lease = self.held().again();
        if lane != Lane::Unary {
            let leased = self.app.fleet.channels.lease_for(&self.target, lane, self.caller).await?;
            return self.alike(&lease, leased);
        }
        if lease.version() == target.connection_version && lease.is_open() {
            target.identity.ready().await?;
            return Ok(lease);
        }
        let renewed = self.app.fleet.channels.renew(&self.target, &lease).await?;
        let renewed = self.alike(&lease, renewed)?;
        *self.held() = renewed.again();
        Ok(renewed)
    }

    fn alike(&self, before: &Lease, now: Lease) -> Result<Lease, Error> {
        if now.probe().generation == before.probe().generation {
            return Ok(now);
        }
        Err(Connection::changed(&self.target.name))
    }

    fn held(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock()
    }
}
