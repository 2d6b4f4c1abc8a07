//! Checks the exact scope of a decoded message. Builds the argument of its handler and the intent, which is stored
//! first.

use futures_util::future::BoxFuture;
use std::sync::Arc;

use super::{
    AnonymousCtx, Call, CallerIdentity, Ctx, FleetCtx, GatewayRef, PendingCtx, Refusal,
    RefusalReason,
};
use crate::access::live::EndReason;
use crate::access::policy::{AllowedCallers, AuditSubject, Method, Rpc, Scope, ScopeKind};
use crate::access::principal::Caller;
use crate::access::principal::require_user;
use crate::access::standing::{AccessCheck, RoleScope};
use crate::app::App;
use crate::audit::Intent;
use crate::db::types::{GatewayId, NamedGateway};
use crate::digest::Digest;
use crate::error::{Error, Reason, ResourceKind};
use crate::role::Role;

/// A call that passed the exact check. [`CallContext::from_authorized`] turns it into the argument of the handler.
#[derive(Debug)]
pub struct AuthorizedCall {
    app: Arc<App>,
    call: Call,
    method: &'static Method,
    caller: Option<Caller>,
    role: Role,
    gateway: Option<GatewayRef>,
    /// Further gateways, if the request names more than one.
    others: Vec<GatewayRef>,
    scope: ScopeKind,
    about: AuditSubject,
}

impl AuthorizedCall {
    /// The caller; `None` if the method is public.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The gateway that was checked; `None` if the scope is not a gateway.
    #[must_use]
    pub fn gateway(&self) -> Option<&GatewayRef> {
        self.gateway.as_ref()
    }

    /// Returns the audit entry to write if the domain refuses the call for a reason that only the domain can check.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let gateway = self.gateway.clone().map(Into::into);
        Refusal {
            about: self.about.clone(),
            gateway,
            role: self.role,
            reason: RefusalReason::default(),
        }
    }

    fn ctx(&self) -> Ctx {
        let identity =
            self.caller.clone().map_or(CallerIdentity::System("public"), CallerIdentity::Caller);
        let (app, call) = (Arc::clone(&self.app), Some(self.call.clone()));
        Ctx { app, call, identity, role: self.role, gateway: self.gateway.clone() }
    }

    /// Returns the caller with the places at which it needs its role: the first one, and further gateways.
    fn access_checks(&self) -> Option<(AccessCheck, impl Iterator<Item = AccessCheck>)> {
        let caller = self.caller.as_ref()?;
        let needed = self.method.min_role();
        let first = match (self.scope, &self.gateway) {
            (ScopeKind::Global | ScopeKind::Gateway, None) => RoleScope::Global,
            (ScopeKind::Fleet | ScopeKind::Loaded, None) => RoleScope::Anywhere,
            (_, Some(gateway)) => RoleScope::Gateway(gateway.id),
        };
        let check_at = move |place| AccessCheck::new(caller.clone(), place, needed);
        let others = self.others.iter();
        Some((check_at(first), others.map(move |gateway| check_at(RoleScope::Gateway(gateway.id)))))
    }

    /// Returns the caller and the first place at which it needs its role; `None` for a public method.
    #[must_use]
    pub fn access_check(&self) -> Option<AccessCheck> {
        self.access_checks().map(|(first, _)| first)
    }

    /// The caller's role in the scope of the call.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Checks the caller again after a wait, and returns its current role.
    ///
    /// # Errors
    /// `CREDENTIAL_INVALID`, `ACCESS_STALE`, `ROLE_TOO_LOW`, or `Missing` if the gateway no longer exists.
    pub fn recheck(&self) -> Result<Role, Error> {
        let Some((first, mut others)) = self.access_checks() else { return Ok(self.role) };
        let gone =
            |ended| lost_access_error(ended, self.gateway.as_ref().map(|gateway| gateway.id));
        let role = first.role(&self.app.snapshot).map_err(gone)?;
        others.try_fold(role, |lowest, other| {
            other.role(&self.app.snapshot).map(|role| role.min(lowest)).map_err(gone)
        })
    }
}

/// Returns the error of one of Shoreguard's own rpcs whose caller has lost its access.
pub(crate) fn lost_access_error(ended: EndReason, gateway: Option<GatewayId>) -> Error {
    match (ended, gateway) {
        // A gateway that the caller cannot see is reported as missing.
        (EndReason::GatewayGone | EndReason::GatewayRemoved, Some(id)) => {
            Error::not_found(ResourceKind::Gateway, id)
        }
        (ended, _) => ended.into(),
    }
}

/// The argument of a handler, which depends on the scope of its method.
pub trait CallContext: Sized + Send + 'static {
    /// Builds the argument from a checked call. For a write whose scope is known, the intent is stored first.
    fn from_authorized(
        authorized: AuthorizedCall,
        digest: Option<Digest>,
        write: bool,
    ) -> impl Future<Output = Result<Self, Error>> + Send;
}

impl CallContext for Ctx {
    async fn from_authorized(
        authorized: AuthorizedCall,
        digest: Option<Digest>,
        write: bool,
    ) -> Result<Self, Error> {
        let mut ctx = authorized.ctx();
        if write {
            open_audit_entry(&ctx, authorized.about.clone(), digest).await?;
            ctx.role = authorized.recheck()?;
        }
        Ok(ctx)
    }
}

impl CallContext for FleetCtx {
    async fn from_authorized(
        authorized: AuthorizedCall,
        digest: Option<Digest>,
        write: bool,
    ) -> Result<Self, Error> {
        let min_role = authorized.method.min_role();
        Ok(Self { ctx: Ctx::from_authorized(authorized, digest, write).await?, min_role })
    }
}

impl CallContext for PendingCtx {
    async fn from_authorized(
        authorized: AuthorizedCall,
        digest: Option<Digest>,
        _write: bool,
    ) -> Result<Self, Error> {
        let ctx = authorized.ctx();
        let AuthorizedCall { method, about, .. } = authorized;
        Ok(Self { ctx, min_role: method.min_role(), method, about, digest })
    }
}

impl CallContext for AnonymousCtx {
    async fn from_authorized(
        authorized: AuthorizedCall,
        digest: Option<Digest>,
        _write: bool,
    ) -> Result<Self, Error> {
        let AuthorizedCall { app, call, about, .. } = authorized;
        Ok(Self { app, call, about, digest })
    }
}

pub(super) fn require_role(held: Role, needed: Role, gateway: Option<&str>) -> Result<(), Error> {
    if held >= needed {
        return Ok(());
    }
    let place =
        gateway.map_or_else(|| "globally".to_owned(), |name| format!("on gateway `{name}`"));
    Err(Error::Denied {
        why: format!("role `{needed}` is needed {place}, the caller has `{held}`"),
    })
}

/// Builds the intent of an entry that is opened now. It has the current time, since the call may have waited.
pub(super) fn build_intent(
    app: &App,
    call: &Call,
    about: AuditSubject,
    digest: Option<Digest>,
) -> Intent {
    Intent {
        client_ip: call.client_ip,
        request_id: call.request_id,
        method: call.method.into(),
        digest,
        ..Intent::new(app.clock.now(), about)
    }
}

/// Returns the gateway of the call, or the gateway it is about: registering and unregistering need a global role.
fn audited_gateway(
    app: &App,
    gateway: Option<GatewayRef>,
    about: &AuditSubject,
) -> Option<NamedGateway> {
    let of_gateways = about.action.resource_type() == "gateway" && !about.target.is_empty();
    let named = of_gateways.then(|| NamedGateway {
        id: app.snapshot.gateway_id(&about.target),
        name: about.target.as_str().into(),
    });
    gateway.map(Into::into).or(named)
}

/// Builds the audit entry of a sensitive read that passed the check.
pub(crate) fn read_intent(authorized: &AuthorizedCall, digest: Option<Digest>) -> Intent {
    Intent {
        actor: authorized
            .caller
            .as_ref()
            .map_or_else(|| "anonymous".into(), |c| Arc::clone(c.actor())),
        principal: authorized.caller.as_ref().map(Caller::principal),
        role: authorized.role,
        gateway: audited_gateway(&authorized.app, authorized.gateway.clone(), &authorized.about),
        ..build_intent(&authorized.app, &authorized.call, authorized.about.clone(), digest)
    }
}

/// Builds the intent of a checked call. Returns `None` for the server's own work.
fn call_intent(ctx: &Ctx, about: AuditSubject, digest: Option<Digest>) -> Option<Intent> {
    let call = ctx.call.as_ref()?;
    Some(Intent {
        actor: ctx.actor(),
        principal: ctx.principal(),
        role: ctx.role,
        gateway: audited_gateway(&ctx.app, ctx.gateway.clone(), &about),
        ..build_intent(&ctx.app, call, about, digest)
    })
}

pub(super) fn open_audit_entry(
    ctx: &Ctx,
    about: AuditSubject,
    digest: Option<Digest>,
) -> BoxFuture<'_, Result<(), Error>> {
    Box::pin(async move {
        let (Some(call), Some(intent)) = (&ctx.call, call_intent(ctx, about, digest)) else {
            return Ok(());
        };
        let entry = ctx.app.audit.open(intent).await?;
        call.note.lock().entry = Some(entry);
        Ok(())
    })
}

/// Checks the exact scope of a decoded message. A refusal is noted for the audit log.
pub(crate) fn authorize<M: Rpc>(
    app: &Arc<App>,
    call: Call,
    message: &M,
) -> Result<AuthorizedCall, Error> {
    let method = M::METHOD;
    let about = message.audit_subject();
    match decide(app, &call, method, &message.scope()) {
        Ok(Decision { caller, role, gateway, others }) => {
            let (app, scope) = (Arc::clone(app), method.scope);
            Ok(AuthorizedCall { app, call, method, caller, role, gateway, others, scope, about })
        }
        Err((error, gateway, role)) => {
            let gateway = gateway.or_else(|| audited_gateway(app, None, &about));
            let reason = RefusalReason::from(&error);
            let refusal = Refusal { about, gateway, role, reason };
            call.note.lock().refusal = Some(refusal);
            Err(error)
        }
    }
}

/// The result of a passed exact check.
struct Decision {
    caller: Option<Caller>,
    role: Role,
    gateway: Option<GatewayRef>,
    others: Vec<GatewayRef>,
}

fn decide(
    app: &App,
    call: &Call,
    method: &Method,
    scope: &Scope<'_>,
) -> Result<Decision, (Error, Option<NamedGateway>, Role)> {
    let public = Decision { caller: None, role: Role::None, gateway: None, others: Vec::new() };
    let needed = match method.access {
        AllowedCallers::Public => return Ok(public),
        AllowedCallers::Authenticated | AllowedCallers::User => Role::None,
        AllowedCallers::Role(role) => role,
    };
    let unknown = |reason| (Error::Unauthenticated { reason }, None, Role::None);
    let Some(caller) = call.caller.clone() else { return Err(unknown(Reason::CredentialMissing)) };
    let principal = caller.principal();
    app.snapshot.check_fresh().map_err(|error| (error, None, Role::None))?;
    if method.access == AllowedCallers::User {
        require_user(principal).map_err(|error| (error, None, Role::None))?;
    }
    // The request headers may have arrived long before the body.
    if !app.snapshot.is_live(&caller) {
        return Err(unknown(Reason::CredentialInvalid));
    }
    let global = app.snapshot.global_role(principal);
    let role = match scope {
        Scope::Global => global,
        Scope::Fleet | Scope::Loaded => app.snapshot.best_role(principal),
        Scope::Gateways(names) => {
            let given: Vec<&str> = names.iter().copied().filter(|name| !name.is_empty()).collect();
            return check_gateways(app, caller, global, needed, &given);
        }
    };
    require_role(role, needed, None).map_err(|error| (error, None, role))?;
    Ok(Decision { caller: Some(caller), role, ..public })
}

/// Checks each gateway that the request names; the scope is global if it names none.
fn check_gateways(
    app: &App,
    caller: Caller,
    global: Role,
    needed: Role,
    names: &[&str],
) -> Result<Decision, (Error, Option<NamedGateway>, Role)> {
    let (mut first, mut others) = (None, Vec::new());
    let mut lowest = if names.is_empty() { global } else { Role::Admin };
    for name in names {
        let found = app.snapshot.find_gateway(caller.principal(), name);
        let hidden = || {
            let of = NamedGateway { id: None, name: Arc::from(*name) };
            (Error::not_found(ResourceKind::Gateway, name), Some(of), Role::None)
        };
        let (gateway, role) = found.filter(|(_, role)| *role > Role::None).ok_or_else(hidden)?;
        require_role(role, needed, Some(&gateway.name))
            .map_err(|error| (error, Some(gateway.clone().into()), role))?;
        lowest = lowest.min(role);
        if first.is_none() {
            first = Some(gateway);
        } else {
            others.push(gateway);
        }
    }
    require_role(lowest, needed, None).map_err(|error| (error, None, lowest))?;
    Ok(Decision { caller: Some(caller), role: lowest, gateway: first, others })
}
