//! The exact check: from a decoded message to what its handler gets, and to the intent that is stored first.

use std::sync::Arc;

use super::{Anonymous, Call, Ctx, FleetCtx, OnGateway, Pending, Refusal, Who, Why};
use crate::access::policy::{About, Access, Method, Rpc, Scope};
use crate::access::principal::Caller;
use crate::access::roles::Role;
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::{Error, Kind, Reason};
use crate::resources::audit::Intent;

/// Keyed digest of a request without its secrets, and the id of the key.
pub type Digest = Option<(Arc<str>, Vec<u8>)>;

/// A call that was let through; turned into what its handler gets.
#[derive(Debug)]
pub struct Granted {
    app: Arc<App>,
    call: Call,
    method: &'static Method,
    caller: Option<Caller>,
    role: Role,
    on: Option<OnGateway>,
    about: About,
}

impl Granted {
    /// The caller, where the method is not public.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The gateway that was checked, where the scope is one.
    #[must_use]
    pub fn on(&self) -> Option<&OnGateway> {
        self.on.as_ref()
    }

    /// What the audit log is to hold of it where the domain refuses what only it can check.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let About { action, resource, target } = self.about.clone();
        let gateway = self.on.clone().map(|(id, name)| (Some(id), name));
        Refusal { action, resource, target, gateway, role: self.role, why: Why::default() }
    }

    fn ctx(self) -> Ctx {
        let who = self.caller.map_or(Who::System("public"), Who::Caller);
        Ctx { app: self.app, call: Some(self.call), who, role: self.role, on: self.on }
    }
}

/// What a handler gets for a scope.
pub trait Grant: Sized + Send + 'static {
    /// From a call that was let through. In a write the intent is stored first, where the scope is settled.
    fn grant(
        granted: Granted,
        digest: Digest,
        write: bool,
    ) -> impl Future<Output = Result<Self, Error>> + Send;
}

impl Grant for Ctx {
    async fn grant(granted: Granted, digest: Digest, write: bool) -> Result<Self, Error> {
        let about = granted.about.clone();
        let ctx = granted.ctx();
        if write {
            open(&ctx, about, digest).await?;
        }
        Ok(ctx)
    }
}

impl Grant for FleetCtx {
    async fn grant(granted: Granted, digest: Digest, write: bool) -> Result<Self, Error> {
        let least = least(granted.method);
        Ok(Self { ctx: Ctx::grant(granted, digest, write).await?, least })
    }
}

impl Grant for Pending {
    async fn grant(granted: Granted, digest: Digest, _write: bool) -> Result<Self, Error> {
        let (method, about) = (granted.method, granted.about.clone());
        Ok(Self { ctx: granted.ctx(), least: least(method), method, about, digest })
    }
}

impl Grant for Anonymous {
    async fn grant(granted: Granted, digest: Digest, _write: bool) -> Result<Self, Error> {
        let Granted { app, call, about, .. } = granted;
        Ok(Self { app, call, about, digest })
    }
}

fn least(method: &Method) -> Role {
    match method.access {
        Access::Role(role) => role,
        Access::Public | Access::Authenticated => Role::None,
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

pub(super) fn intent(call: &Call, about: About, digest: Digest) -> Intent {
    Intent {
        at: call.at,
        actor: "anonymous".into(),
        principal: None,
        role: Role::None,
        action: about.action,
        resource_type: about.resource,
        resource_id: about.target,
        gateway: None,
        client_ip: call.client_ip,
        request_id: call.request_id,
        method: call.method.into(),
        digest,
        detail: None,
    }
}

/// What the audit log is to hold of a sensitive read that was let through.
pub(crate) fn intent_of_read(granted: &Granted, digest: Digest) -> Intent {
    Intent {
        actor: granted
            .caller
            .as_ref()
            .map_or_else(|| "anonymous".into(), |c| Arc::clone(c.actor())),
        principal: granted.caller.as_ref().map(Caller::principal),
        role: granted.role,
        gateway: granted.on.clone().map(|(id, name)| (Some(id), name)),
        ..intent(&granted.call, granted.about.clone(), digest)
    }
}

/// What the audit log is to hold of a checked call.
fn intent_of(ctx: &Ctx, about: About, digest: Digest) -> Option<Intent> {
    let call = ctx.call.as_ref()?;
    Some(Intent {
        actor: ctx.actor(),
        principal: ctx.principal(),
        role: ctx.role,
        gateway: ctx.on.clone().map(|(id, name)| (Some(id), name)),
        ..intent(call, about, digest)
    })
}

pub(super) async fn open(ctx: &Ctx, about: About, digest: Digest) -> Result<(), Error> {
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
        Ok((caller, role, on)) => {
            Ok(Granted { app: Arc::clone(app), call, method, caller, role, on, about })
        }
        Err((error, gateway, role)) => {
            let About { action, resource, target } = about;
            let why = Why::from(&error);
            let refusal = Refusal { action, resource, target, gateway, role, why };
            call.note.lock().refused = Some(refusal);
            Err(error)
        }
    }
}

type Place = Option<(Option<GatewayId>, Arc<str>)>;
type Decided = (Option<Caller>, Role, Option<OnGateway>);

fn decide(
    app: &App,
    call: &Call,
    method: &Method,
    scope: &Scope<'_>,
) -> Result<Decided, (Error, Place, Role)> {
    let needed = match method.access {
        Access::Public => return Ok((None, Role::None, None)),
        Access::Authenticated => Role::None,
        Access::Role(role) => role,
    };
    let missing = Error::Unauthenticated { reason: Reason::CredentialMissing };
    let Some(caller) = call.caller.clone() else {
        return Err((missing, None, Role::None));
    };
    let principal = caller.principal();
    app.snapshot.check_fresh().map_err(|error| (error, None, Role::None))?;
    let global = app.snapshot.global_role(principal);
    let (role, on) = match scope {
        Scope::Global => (global, None),
        Scope::Fleet | Scope::Loaded => (app.snapshot.best_role(principal), None),
        Scope::Gateways(names) => {
            let given: Vec<&str> = names.iter().copied().filter(|name| !name.is_empty()).collect();
            return on_all(app, caller, global, needed, &given);
        }
    };
    enough(role, needed, None).map_err(|error| (error, None, role))?;
    Ok((Some(caller), role, on))
}

/// Each gateway that the request names is a scope of its own; where it names none the scope is global.
fn on_all(
    app: &App,
    caller: Caller,
    global: Role,
    needed: Role,
    names: &[&str],
) -> Result<Decided, (Error, Place, Role)> {
    let mut first = None;
    let mut lowest = if names.is_empty() { global } else { Role::Admin };
    for name in names {
        let found = app.snapshot.gateway(caller.principal(), name);
        let hidden =
            || (Error::missing(Kind::Gateway, name), Some((None, Arc::from(*name))), Role::None);
        let (id, name, role) =
            found.filter(|(_, _, role)| *role > Role::None).ok_or_else(hidden)?;
        let place = Some((Some(id), Arc::clone(&name)));
        enough(role, needed, Some(&name)).map_err(|error| (error, place, role))?;
        lowest = lowest.min(role);
        first.get_or_insert((id, name));
    }
    enough(lowest, needed, None).map_err(|error| (error, None, lowest))?;
    Ok((Some(caller), lowest, first))
}
