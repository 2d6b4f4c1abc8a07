//! Selects the gateway of a call and checks the caller's role, before the body is read. Only a role that depends on the
//! message is checked later (`early`).

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;

use super::Proxy;
use super::audit;
use super::concerned::RequestSubject;
use super::early::{EarlyReader, EarlyRequest};
use super::revocation::CallWatch;
use super::target::{self, RequestedGateway, SelectedGateway};
use crate::access::policy::{AuditMode, StreamingMode, UpstreamMethod, UpstreamPolicy};
use crate::ctx::Call;
use crate::error::{Error, Reason};
use crate::fair::LimitShare;
use crate::net::BoxError;
use crate::role::Role;
use crate::upstream::capability;
use crate::upstream::connection::{Connection, Lease};
use crate::upstream::generation::{DetectedGeneration, Generation};
use crate::upstream::lane::Lane;
use crate::upstream::probe::Probe;
use crate::upstream::targets::Target;

/// The rows of a method in both generations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MethodRows {
    /// Its path, borrowed from the table.
    pub(crate) path: &'static str,
    /// In generation 0.0.
    pub(crate) v0_0: Option<&'static UpstreamMethod>,
    /// In generation 0.1.
    pub(crate) v0_1: Option<&'static UpstreamMethod>,
}

impl MethodRows {
    /// Returns the row and guard of a method for the generation of a gateway.
    fn for_gateway(
        self,
        probe: &Probe,
        gateway: &str,
    ) -> Result<(&'static UpstreamMethod, &'static UpstreamPolicy), Error> {
        let generation = probe.supported_generation(gateway)?;
        let row = self.row(generation);
        capability::check_method(self.path, gateway, generation, &probe.version)?;
        let row = row.ok_or_else(|| Error::Unimplemented { path: self.path.to_owned() })?;
        let guard = row.policy.as_ref().ok_or_else(|| {
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
    pub(super) fn guard_for(
        self,
        generation: DetectedGeneration,
    ) -> Option<&'static UpstreamPolicy> {
        let row = generation.known().and_then(|generation| self.row(generation));
        row.and_then(|row| row.policy.as_ref()).or_else(|| self.lowest_guard())
    }

    /// Whether the method has a request stream in either generation.
    pub(super) fn has_request_stream(self) -> bool {
        let rows = [self.v0_0, self.v0_1].into_iter().flatten();
        rows.into_iter()
            .any(|row| matches!(row.streaming, StreamingMode::Client | StreamingMode::Both))
    }

    /// Returns the guard with the lower role, for use before the generation is known.
    fn lowest_guard(self) -> Option<&'static UpstreamPolicy> {
        let guards = [self.v0_0, self.v0_1].into_iter().filter_map(|row| row?.policy.as_ref());
        guards.min_by_key(|guard| guard.role)
    }
}

/// A call that was admitted to its gateway. In a box, since each step passes it on by value.
pub(super) struct AdmittedCall<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) call: Call,
    pub(super) selected: SelectedGateway,
    pub(super) target: Arc<Target>,
    pub(super) row: &'static UpstreamMethod,
    pub(super) guard: &'static UpstreamPolicy,
    pub(super) generation: Generation,
    pub(super) lease: Lease,
    pub(super) watch: CallWatch,
    /// The part of the request that was already read.
    pub(super) early_request: EarlyRequest,
    /// Counts the call as one of its caller's unary calls while held.
    pub(super) unary: Option<LimitShare>,
}

/// Selects the gateway and checks the method's role before the body is read. Then reads a request that consists of one
/// message, and leases a connection.
pub(super) async fn admit<'a, B>(
    proxy: &'a Proxy,
    call: Call,
    rows: MethodRows,
    parts: &http::request::Parts,
    body: &mut B,
) -> Result<Box<AdmittedCall<'a>>, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let app = &proxy.app;
    let caller = call.caller.clone();
    let caller = caller.ok_or(Error::Unauthenticated { reason: Reason::CredentialMissing })?;
    app.snapshot.check_fresh()?;
    let domain = app.config.server.gateway_domain.as_deref();
    let (no_subject, lowest) = (RequestSubject::default(), rows.lowest_guard());
    let selected = RequestedGateway::from_request(&parts.headers, parts.uri.authority(), domain)
        .and_then(|requested| target::select(&app.snapshot, &caller, requested))
        .inspect_err(|error| audit::record_refusal(&call, lowest, &no_subject, None, error))?;
    let refused = |guard: Option<&'static UpstreamPolicy>, error: Error| {
        audit::record_refusal(&call, guard, &no_subject, Some(&selected), &error);
        error
    };
    let name = &selected.gateway.name;
    // Checked before connecting, so that an unauthorized caller cannot cause a connection to the gateway.
    if let Some(guard) = lowest {
        check_role(&selected, guard.role).map_err(|error| refused(Some(guard), error))?;
    }
    let removed = || Connection::removed(name);
    let target = app.fleet.targets.get(selected.gateway.id).ok_or_else(removed)?;
    let principal = caller.principal();
    let mut watch = CallWatch::new(
        app,
        caller,
        selected.gateway.id,
        lowest.map_or(Role::Admin, |g| g.role),
        call.deadline,
    );
    let generation = target.generation;
    let reader =
        EarlyReader { app, call: &call, rows, selected: &selected, generation, watch: &watch };
    let early_request = reader.read(&parts.headers, body).await?;
    let lane = Lane::for_method([rows.v0_0, rows.v0_1]);
    let unary = (lane == Lane::Unary)
        .then(|| app.fleet.call_limits.admit_unary(selected.gateway.id, principal))
        .transpose()?;
    let leased = proxy.channels.lease_for(&target, lane, Some(principal));
    let lease = watch.within(leased).await??;
    let generation =
        lease.probe().supported_generation(name).map_err(|error| refused(lowest, error))?;
    let (row, guard) =
        rows.for_gateway(lease.probe(), name).map_err(|error| refused(lowest, error))?;
    check_role(&selected, guard.role)
        .and_then(|()| lease.probe().check_effect(guard.effect, name))
        .and_then(|()| match guard.audit {
            // Decided by the role on this gateway, not by the caller's highest role.
            AuditMode::Write => app.disk.admit(selected.role),
            AuditMode::None | AuditMode::Read => Ok(()),
        })
        .map_err(|error| refused(Some(guard), error))?;
    watch.require_role(guard.role);
    if row.streaming != StreamingMode::Unary {
        watch.register(row.streaming.is_server_streaming());
    }
    Ok(Box::new(AdmittedCall {
        proxy,
        call,
        selected,
        target,
        row,
        guard,
        generation,
        lease,
        watch,
        early_request,
        unary,
    }))
}

pub(super) fn check_role(selected: &SelectedGateway, needed: Role) -> Result<(), Error> {
    if selected.role >= needed {
        return Ok(());
    }
    let (role, name) = (selected.role, &selected.gateway.name);
    let why = format!("role `{needed}` is needed on gateway `{name}`, the caller has `{role}`");
    Err(Error::Denied { why })
}

impl AdmittedCall<'_> {
    /// Moves the call to another connection, which must have the generation in which the request was parsed.
    pub(super) async fn renew(&mut self) -> Result<(), Error> {
        let renewed = self.proxy.channels.renew(&self.target, &self.lease);
        self.lease = self.watch.within(renewed).await??;
        let probe = self.lease.probe();
        if probe.generation == DetectedGeneration::Known(self.generation) {
            return probe.check_effect(self.guard.effect, &self.selected.gateway.name);
        }
        Err(Connection::changed(&self.selected.gateway.name))
    }

    pub(super) fn reports_sandbox_ids(&self) -> bool {
        self.guard.answers_sandbox_ids
    }
}
