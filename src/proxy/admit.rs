//! Selects the gateway of a call and checks the caller's role, before the body is read. Only a role that depends on the
//! message is checked later (`early`).

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;

use super::Proxy;
use super::audit;
use super::concerned::Concerned;
use super::early::{Arrived, Early};
use super::revocation::Watch;
use super::target::{self, Chosen, Said};
use crate::access::policy::{Audit, Guard, Streaming, UpstreamMethod};
use crate::ctx::Call;
use crate::error::{Error, Reason};
use crate::fair::Share;
use crate::net::BoxError;
use crate::role::Role;
use crate::upstream::capability;
use crate::upstream::connection::{Connection, Lease};
use crate::upstream::generation::{Detected, Generation};
use crate::upstream::lane::Lane;
use crate::upstream::probe::Probe;
use crate::upstream::targets::Target;

/// The rows of a method in both generations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// Its path, borrowed from the table.
    pub(crate) path: &'static str,
    /// In generation 0.0.
    pub(crate) v0_0: Option<&'static UpstreamMethod>,
    /// In generation 0.1.
    pub(crate) v0_1: Option<&'static UpstreamMethod>,
}

impl Rows {
    /// Returns the row and guard of a method for the generation of a gateway.
    fn of(
        self,
        probe: &Probe,
        gateway: &str,
    ) -> Result<(&'static UpstreamMethod, &'static Guard), Error> {
        let generation = probe.spoken(gateway)?;
        let row = self.row(generation);
        capability::needs(self.path, gateway, generation, &probe.version)?;
        let row = row.ok_or_else(|| Error::Unimplemented { path: self.path.to_owned() })?;
        let guard = row.guard.as_ref().ok_or_else(|| {
            let why = format!("`{}` is never forwarded", self.path);
            Error::refused(Reason::MethodNotForwarded, why)
        })?;
        Ok((row, guard))
    }

    fn row(self, generation: Generation) -> Option<&'static UpstreamMethod> {
        match generation {
            Generation::V0_0 => self.v0_0,
            Generation::V0_1 => self.v0_1,
        }
    }

    /// Returns the guard of a generation, or the guard with the lower role if the generation is unknown or has none.
    pub(super) fn of_generation(self, generation: Detected) -> Option<&'static Guard> {
        let row = generation.known().and_then(|generation| self.row(generation));
        row.and_then(|row| row.guard.as_ref()).or_else(|| self.any())
    }

    /// Whether the method has a request stream in either generation.
    pub(super) fn stream_requests(self) -> bool {
        let rows = [self.v0_0, self.v0_1].into_iter().flatten();
        rows.into_iter().any(|row| matches!(row.streaming, Streaming::Client | Streaming::Both))
    }

    /// Returns the guard with the lower role, for use before the generation is known.
    fn any(self) -> Option<&'static Guard> {
        let guards = [self.v0_0, self.v0_1].into_iter().filter_map(|row| row?.guard.as_ref());
        guards.min_by_key(|guard| guard.role)
    }
}

/// A call that was admitted to its gateway.
pub(super) struct Admitted<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) call: Call,
    pub(super) chosen: Chosen,
    pub(super) target: Arc<Target>,
    pub(super) row: &'static UpstreamMethod,
    pub(super) guard: &'static Guard,
    pub(super) generation: Generation,
    pub(super) lease: Lease,
    pub(super) watch: Watch,
    /// The part of the request that was already read.
    pub(super) arrived: Arrived,
    /// Counts the call as one of its caller's unary calls while held.
    pub(super) unary: Option<Share>,
}

/// Selects the gateway and checks the method's role before the body is read. Then reads a request that consists of one
/// message, and leases a connection.
pub(super) async fn admit<'a, B>(
    proxy: &'a Proxy,
    call: Call,
    rows: Rows,
    parts: &http::request::Parts,
    body: &mut B,
) -> Result<Admitted<'a>, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let app = &proxy.app;
    let caller = call.caller.clone();
    let caller = caller.ok_or(Error::Unauthenticated { reason: Reason::CredentialMissing })?;
    app.snapshot.check_fresh()?;
    let domain = app.config.server.gateway_domain.as_deref();
    let chosen = Said::of(&parts.headers, parts.uri.authority(), domain)
        .and_then(|said| target::of(&app.snapshot, &caller, said))
        .inspect_err(|error| {
            audit::refuse(&call, rows.any(), &Concerned::default(), None, error);
        })?;
    let refused = |guard: Option<&'static Guard>, error: Error| {
        audit::refuse(&call, guard, &Concerned::default(), Some(&chosen), &error);
        error
    };
    let away = || Connection::unreachable(&chosen.gateway.name);
    // Checked before connecting, so that an unauthorized caller cannot cause a connection to the gateway.
    if let Some(guard) = rows.any() {
        enough(&chosen, guard.role).map_err(|error| refused(Some(guard), error))?;
    }
    let target = app.fleet.targets.get(chosen.gateway.id).ok_or_else(away)?;
    let principal = caller.principal();
    let mut watch = Watch::new(
        app,
        caller,
        chosen.gateway.id,
        rows.any().map_or(Role::Admin, |g| g.role),
        call.deadline,
    );
    let generation = target.generation;
    let early = Early { app, call: &call, rows, chosen: &chosen, generation, watch: &watch };
    let arrived = early.read(&parts.headers, body).await?;
    let lane = Lane::of([rows.v0_0, rows.v0_1]);
    let unary = (lane == Lane::Unary)
        .then(|| app.fleet.streams.admit_unary(chosen.gateway.id, principal))
        .transpose()?;
    let leased = proxy.channels.lease_for(&target, lane, Some(principal));
    let lease = watch.within(leased).await??;
    let generation =
        lease.probe().spoken(&chosen.gateway.name).map_err(|error| refused(rows.any(), error))?;
    let (row, guard) =
        rows.of(lease.probe(), &chosen.gateway.name).map_err(|error| refused(rows.any(), error))?;
    enough(&chosen, guard.role)
        .and_then(|()| lease.probe().governable(guard.effect, &chosen.gateway.name))
        .and_then(|()| match guard.audit {
            // Decided by the role on this gateway, not by the caller's highest role.
            Audit::Write => app.disk.admit(chosen.role),
            Audit::None | Audit::Read => Ok(()),
        })
        .map_err(|error| refused(Some(guard), error))?;
    watch.needs(guard.role);
    if row.streaming != Streaming::Unary {
        watch.register(row.streaming.answer_streams());
    }
    Ok(Admitted {
        proxy,
        call,
        chosen,
        target,
        row,
        guard,
        generation,
        lease,
        watch,
        arrived,
        unary,
    })
}

pub(super) fn enough(chosen: &Chosen, needed: Role) -> Result<(), Error> {
    if chosen.role >= needed {
        return Ok(());
    }
    let (held, name) = (chosen.role, &chosen.gateway.name);
    let why = format!("role `{needed}` is needed on gateway `{name}`, the caller has `{held}`");
    Err(Error::Denied { why })
}

impl Admitted<'_> {
    /// Moves the call to another connection, which must have the generation in which the request was parsed.
    pub(super) async fn renew(&mut self) -> Result<(), Error> {
        let renewed = self.proxy.channels.renew(&self.target, &self.lease);
        self.lease = self.watch.within(renewed).await??;
        let probe = self.lease.probe();
        if probe.generation == Detected::Known(self.generation) {
            return probe.governable(self.guard.effect, &self.chosen.gateway.name);
        }
        Err(Connection::changed(&self.chosen.gateway.name))
    }

    pub(super) fn learns(&self) -> bool {
        self.guard.answers_sandbox_ids
    }
}
