//! Connections for Shoreguard's own calls to a gateway, and the checks of the methods that are called on them.
//!
//! Invariants
//! - a handle has one generation: a connection that was probed with another one is rejected;
//! - the outcome of a write without a response is unknown until it is reported or found out;
//! - unary calls share one connection for as long as it is open, streaming calls use others.

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
    /// Counts the streams of this handle against the caller of `ctx`, and reports to `ctx` when the gateway may have
    /// acted.
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

    /// Returns the share of the budget that the responses of a method use.
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

    /// Records whether the gateway reported the outcome of a request. [`Gateway::found_out`] records that a creation
    /// was found in another way.
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

    /// Records that the outcome of the last request is known, although there was no response.
    pub(crate) fn found_out(&self) {
        self.unanswered.settle();
    }

    /// Returns the error for a response that cannot be parsed. The outcome of a write is then unknown, since the
    /// gateway may have done anything.
    pub(crate) fn unreadable(&self, path: &'static str) -> Error {
        if self.acts(path) {
            self.unanswered.open();
        }
        unreadable(self.name(), path)
    }

    /// Rejects a method that the gateway's version does not have, or that could change a policy while the configured
    /// generation contradicts the version.
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

    /// Leases a connection. Unary calls use the same one as before, or another one if it accepts no more streams or its
    /// `connection_version` is outdated. A streaming call gets a connection of its lane.
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
