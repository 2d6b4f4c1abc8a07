//! Checks the exact scope of a decoded message. Builds the argument of its handler and the intent, which is stored
//! first.

use std::sync::Arc;

use super::{Anonymous, Call, Ctx, FleetCtx, GatewayRef, Pending, Refusal, Who, Why};
use crate::access::live::Ended;
use crate::access::policy::{About, Access, Method, Rpc, Scope, ScopeKind};
use crate::access::principal::Caller;
use crate::access::principal::only_user;
use crate::access::standing::{Place, Standing};
use crate::app::App;
use crate::audit::Intent;
use crate::db::types::{GatewayId, NamedGateway};
use crate::digest::Digest;
use crate::error::{Error, Kind, Reason};
use crate::role::Role;

/// A call that passed the exact check. [`Grant::grant`] turns it into the argument of the handler.
#[derive(Debug)]
pub struct Granted {
    app: Arc<App>,
    call: Call,
    method: &'static Method,
    caller: Option<Caller>,
    role: Role,
    on: Option<GatewayRef>,
    /// Further gateways, if the request names more than one.
    others: Vec<GatewayRef>,
    scope: ScopeKind,
    about: About,
}

impl Granted {
    /// The caller; `None` if the method is public.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The gateway that was checked; `None` if the scope is not a gateway.
    #[must_use]
    pub fn on(&self) -> Option<&GatewayRef> {
        self.on.as_ref()
    }

    /// Returns the audit entry to write if the domain refuses the call for a reason that only the domain can check.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let gateway = self.on.clone().map(Into::into);
        Refusal { about: self.about.clone(), gateway, role: self.role, why: Why::default() }
    }

    fn ctx(&self) -> Ctx {
        let who = self.caller.clone().map_or(Who::System("public"), Who::Caller);
        let (app, call) = (Arc::clone(&self.app), Some(self.call.clone()));
        Ctx { app, call, who, role: self.role, on: self.on.clone() }
    }

    /// Returns the caller with the places at which it needs its role: the first one, and further gateways.
    fn standings(&self) -> Option<(Standing, impl Iterator<Item = Standing>)> {
        let caller = self.caller.as_ref()?;
        let needed = self.method.least();
        let first = match (self.scope, &self.on) {
            (ScopeKind::Global | ScopeKind::Gateway, None) => Place::Global,
            (ScopeKind::Fleet | ScopeKind::Loaded, None) => Place::Anywhere,
            (_, Some(gateway)) => Place::On(gateway.id),
        };
        let on = move |place| Standing::new(caller.clone(), place, needed);
        let others = self.others.iter();
        Some((on(first), others.map(move |gateway| on(Place::On(gateway.id)))))
    }

    /// Returns the caller and the first place at which it needs its role; `None` for a public method.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        self.standings().map(|(first, _)| first)
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
        let Some((first, mut others)) = self.standings() else { return Ok(self.role) };
        let gone = |ended| of_own_call(ended, self.on.as_ref().map(|gateway| gateway.id));
        let role = first.role(&self.app.snapshot).map_err(gone)?;
        others.try_fold(role, |lowest, other| {
            other.role(&self.app.snapshot).map(|role| role.min(lowest)).map_err(gone)
        })
    }
}

/// Returns the error of one of Shoreguard's own rpcs whose caller has lost its access.
pub(crate) fn of_own_call(ended: Ended, on: Option<GatewayId>) -> Error {
    match (ended, on) {
        // A gateway that the caller cannot see is reported as missing.
        (Ended::GatewayGone, Some(id)) => Error::missing(Kind::Gateway, id),
        (ended, _) => ended.into(),
    }
}

/// The argument of a handler, which depends on the scope of its method.
pub trait Grant: Sized + Send + 'static {
    /// Builds the argument from a checked call. For a write whose scope is known, the intent is stored first.
    fn grant(
        granted: Granted,
        digest: Option<Digest>,
        write: bool,
    ) -> impl Future<Output = Result<Self, Error>> + Send;
}

impl Grant for Ctx {
    async fn grant(granted: Granted, digest: Option<Digest>, write: bool) -> Result<Self, Error> {
        let mut ctx = granted.ctx();
        if write {
            open(&ctx, granted.about.clone(), digest).await?;
            ctx.role = granted.recheck()?;
        }
        Ok(ctx)
    }
}

impl Grant for FleetCtx {
    async fn grant(granted: Granted, digest: Option<Digest>, write: bool) -> Result<Self, Error> {
        let least = granted.method.least();
        Ok(Self { ctx: Ctx::grant(granted, digest, write).await?, least })
    }
}

impl Grant for Pending {
    async fn grant(granted: Granted, digest: Option<Digest>, _write: bool) -> Result<Self, Error> {
        let ctx = granted.ctx();
        let Granted { method, about, .. } = granted;
        Ok(Self { ctx, least: method.least(), method, about, digest })
    }
}

impl Grant for Anonymous {
    async fn grant(granted: Granted, digest: Option<Digest>, _write: bool) -> Result<Self, Error> {
        let Granted { app, call, about, .. } = granted;
        Ok(Self { app, call, about, digest })
    }
}

pub(super) fn enough(held: Role, needed: Role, gateway: Option<&str>) -> Result<(), Error> {
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
pub(super) fn intent(app: &App, call: &Call, about: About, digest: Option<Digest>) -> Intent {
    Intent {
        client_ip: call.client_ip,
        request_id: call.request_id,
        method: call.method.into(),
        digest,
        ..Intent::new(app.clock.now(), about)
    }
}

/// Returns the gateway of the call, or the gateway it is about: registering and unregistering need a global role.
fn gateway_of(app: &App, on: Option<GatewayRef>, about: &About) -> Option<NamedGateway> {
    let of_gateways = about.action.resource_type() == "gateway" && !about.target.is_empty();
    let named = of_gateways.then(|| NamedGateway {
        id: app.snapshot.gateway_id(&about.target),
        name: about.target.as_str().into(),
    });
    on.map(Into::into).or(named)
}

/// Builds the audit entry of a sensitive read that passed the check.
pub(crate) fn intent_of_read(granted: &Granted, digest: Option<Digest>) -> Intent {
    Intent {
        actor: granted
            .caller
            .as_ref()
            .map_or_else(|| "anonymous".into(), |c| Arc::clone(c.actor())),
        principal: granted.caller.as_ref().map(Caller::principal),
        role: granted.role,
        gateway: gateway_of(&granted.app, granted.on.clone(), &granted.about),
        ..intent(&granted.app, &granted.call, granted.about.clone(), digest)
    }
}

/// Builds the intent of a checked call. Returns `None` for the server's own work.
fn intent_of(ctx: &Ctx, about: About, digest: Option<Digest>) -> Option<Intent> {
    let call = ctx.call.as_ref()?;
    Some(Intent {
        actor: ctx.actor(),
        principal: ctx.principal(),
        role: ctx.role,
        gateway: gateway_of(&ctx.app, ctx.on.clone(), &about),
        ..intent(&ctx.app, call, about, digest)
    })
}

pub(super) async fn open(ctx: &Ctx, about: About, digest: Option<Digest>) -> Result<(), Error> {
    let (Some(call), Some(intent)) = (&ctx.call, intent_of(ctx, about, digest)) else {
        return Ok(());
    };
    let entry = ctx.app.audit.open(intent).await?;
    call.note.lock().entry = Some(entry);
    Ok(())
}

/// Checks the exact scope of a decoded message. A refusal is noted for the audit log.
pub(crate) fn authorize<M: Rpc>(app: &Arc<App>, call: Call, message: &M) -> Result<Granted, Error> {
    let method = M::METHOD;
    let about = message.about();
    match decide(app, &call, method, &message.scope()) {
        Ok(Decided { caller, role, on, others }) => {
            let (app, scope) = (Arc::clone(app), method.scope);
            Ok(Granted { app, call, method, caller, role, on, others, scope, about })
        }
        Err((error, gateway, role)) => {
            let gateway = gateway.or_else(|| gateway_of(app, None, &about));
            let why = Why::from(&error);
            let refusal = Refusal { about, gateway, role, why };
            call.note.lock().refused = Some(refusal);
            Err(error)
        }
    }
}

/// The result of a passed exact check.
struct Decided {
    caller: Option<Caller>,
    role: Role,
    on: Option<GatewayRef>,
    others: Vec<GatewayRef>,
}

fn decide(
    app: &App,
    call: &Call,
    method: &Method,
    scope: &Scope<'_>,
) -> Result<Decided, (Error, Option<NamedGateway>, Role)> {
    let public = Decided { caller: None, role: Role::None, on: None, others: Vec::new() };
    let needed = match method.access {
        Access::Public => return Ok(public),
        Access::Authenticated | Access::User => Role::None,
        Access::Role(role) => role,
    };
    let unknown = |reason| (Error::Unauthenticated { reason }, None, Role::None);
    let Some(caller) = call.caller.clone() else { return Err(unknown(Reason::CredentialMissing)) };
    let principal = caller.principal();
    app.snapshot.check_fresh().map_err(|error| (error, None, Role::None))?;
    if method.access == Access::User {
        only_user(principal).map_err(|error| (error, None, Role::None))?;
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
            return on_all(app, caller, global, needed, &given);
        }
    };
    enough(role, needed, None).map_err(|error| (error, None, role))?;
    Ok(Decided { caller: Some(caller), role, ..public })
}

/// Checks each gateway that the request names; the scope is global if it names none.
fn on_all(
    app: &App,
    caller: Caller,
    global: Role,
    needed: Role,
    names: &[&str],
) -> Result<Decided, (Error, Option<NamedGateway>, Role)> {
    let (mut on, mut others) = (None, Vec::new());
    let mut lowest = if names.is_empty() { global } else { Role::Admin };
    for name in names {
        let found = app.snapshot.gateway(caller.principal(), name);
        let hidden = || {
            let of = NamedGateway { id: None, name: Arc::from(*name) };
            (Error::missing(Kind::Gateway, name), Some(of), Role::None)
        };
        let (gateway, role) = found.filter(|(_, role)| *role > Role::None).ok_or_else(hidden)?;
        enough(role, needed, Some(&gateway.name))
            .map_err(|error| (error, Some(gateway.clone().into()), role))?;
        lowest = lowest.min(role);
        if on.is_none() {
            on = Some(gateway);
        } else {
            others.push(gateway);
        }
    }
    enough(lowest, needed, None).map_err(|error| (error, None, lowest))?;
    Ok(Decided { caller: Some(caller), role: lowest, on, others })
}
