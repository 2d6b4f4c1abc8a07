//! Who calls, for which scope: the proof that access was checked.
//!
//! Invariants
//! - fields are private and only [`authorize`], [`Pending::on`], [`Anonymous::becomes`] and
//!   [`Ctx::system`] make a [`Ctx`], so a domain function that takes one can't be reached unchecked;
//! - on a gateway that the caller has no role on, the answer is that there is none.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::access::policy::{Access, Method, Rpc, Scope};
use crate::access::principal::{Caller, PrincipalId};
use crate::access::roles::Role;
use crate::access::snapshot::Visible;
use crate::app::App;
use crate::db::Db;
use crate::db::types::{GatewayId, Timestamp};
use crate::error::{Error, Kind, Reason};
use crate::resources::audit::{Intent, OpenEntry};

/// A gateway that a call is about.
pub type OnGateway = (GatewayId, Arc<str>);

/// What the layers found out about a call; the one extension that travels with it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Ours, also where the caller sent one that could not be used.
    pub request_id: Uuid,
    /// When it arrived.
    pub at: Timestamp,
    /// When it arrived, for durations.
    pub started: Instant,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Where it comes from.
    pub client_ip: Option<IpAddr>,
    /// Who calls, where that is known.
    pub caller: Option<Caller>,
    /// Path of the method, in the table's own bytes.
    pub method: &'static str,
    /// What the audit log is to know.
    pub note: Arc<Note>,
}

/// What is noted of a call on its way, for the audit log.
#[derive(Debug, Default)]
pub struct Note {
    state: Mutex<Noted>,
}

/// The content of a [`Note`].
#[derive(Debug, Default)]
pub struct Noted {
    /// Why the call was not let through.
    pub refused: Option<Refusal>,
    /// The intent that waits for its outcome.
    pub entry: Option<OpenEntry>,
    /// What the domain added.
    pub detail: Map<String, Value>,
}

/// A call that was not let through.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The audit action that it would have been.
    pub action: &'static str,
    /// The kind of thing concerned.
    pub resource: &'static str,
    /// Which one.
    pub target: String,
    /// The gateway, as the caller named it.
    pub gateway: Option<(Option<GatewayId>, Arc<str>)>,
    /// The role that the caller had there.
    pub role: Role,
}

impl Note {
    /// The content.
    pub fn lock(&self) -> MutexGuard<'_, Noted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A checked call: global, or on one gateway.
#[derive(Debug, Clone)]
pub struct Ctx {
    app: Arc<App>,
    call: Option<Call>,
    who: Who,
    role: Role,
    on: Option<OnGateway>,
}

#[derive(Debug, Clone)]
enum Who {
    Caller(Caller),
    System(&'static str),
}

impl Ctx {
    /// For a background job, which is nobody's call.
    pub(crate) fn system(app: &Arc<App>, job: &'static str) -> Self {
        Self {
            app: Arc::clone(app),
            call: None,
            who: Who::System(job),
            role: Role::Admin,
            on: None,
        }
    }

    /// The same, about one gateway: for background jobs and offline commands, which have no scope to check.
    pub(crate) fn about(self, gateway: OnGateway) -> Self {
        Self { on: Some(gateway), ..self }
    }

    /// The process.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.app.db
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.app.clock.now()
    }

    /// The caller's name, for showing.
    #[must_use]
    pub fn actor(&self) -> Arc<str> {
        match &self.who {
            Who::Caller(caller) => Arc::clone(caller.actor()),
            Who::System(job) => format!("system:{job}").into(),
        }
    }

    /// What identifies the caller for good; none for a background job.
    #[must_use]
    pub fn principal(&self) -> Option<PrincipalId> {
        self.caller().map(Caller::principal)
    }

    /// What identifies the caller for good, as text: what page tokens are bound to.
    #[must_use]
    pub fn principal_text(&self) -> String {
        self.principal().map_or_else(|| "system".to_owned(), |principal| principal.to_string())
    }

    /// The caller; none for a background job.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        match &self.who {
            Who::Caller(caller) => Some(caller),
            Who::System(_) => None,
        }
    }

    /// The caller's role in this scope.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the caller is admin everywhere.
    #[must_use]
    pub fn is_global_admin(&self) -> bool {
        self.principal().is_none_or(|p| self.app.snapshot.global_role(p) == Role::Admin)
    }

    /// The gateway that was checked, where the scope is one.
    #[must_use]
    pub fn gateway(&self) -> Option<&OnGateway> {
        self.on.as_ref()
    }

    /// The gateway that was checked; the request must name one.
    pub fn on_gateway(&self) -> Result<&OnGateway, Error> {
        self.on.as_ref().ok_or_else(|| Error::invalid("gateway", "is required"))
    }

    /// Id of the call, as in the log; fresh for a background job.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.call.as_ref().map_or_else(|| self.app.new_id(), |call| call.request_id)
    }

    /// Adds to what the audit log keeps of this call. Never a secret.
    pub fn detail(&self, key: &str, value: impl Into<Value>) {
        if let Some(call) = &self.call {
            call.note.lock().detail.insert(key.to_owned(), value.into());
        }
    }
}

/// A checked call about the fleet: the caller holds the role somewhere.
#[derive(Debug, Clone)]
pub struct FleetCtx {
    ctx: Ctx,
    least: Role,
}

impl FleetCtx {
    /// The gateways that the caller may see in the answer, as they are now.
    #[must_use]
    pub fn visible(&self) -> Visible {
        match self.ctx.principal() {
            None => Visible::All,
            Some(principal) => self.ctx.app.snapshot.visible(principal, self.least),
        }
    }

    /// Narrows to one gateway, which the caller must see.
    pub fn only(&self, gateway: &str) -> Result<OnGateway, Error> {
        let missing = || Error::missing(Kind::Gateway, gateway);
        let principal = self.ctx.principal().ok_or_else(missing)?;
        let found = self.ctx.app.snapshot.gateway(principal, gateway);
        let (id, name, role) =
            found.filter(|(_, _, role)| *role > Role::None).ok_or_else(missing)?;
        enough(role, self.least, Some(&name))?;
        Ok((id, name))
    }
}

impl std::ops::Deref for FleetCtx {
    type Target = Ctx;

    fn deref(&self) -> &Ctx {
        &self.ctx
    }
}

/// A call whose gateway only the stored object tells.
#[derive(Debug)]
pub struct Pending {
    ctx: Ctx,
    least: Role,
    method: &'static Method,
    digest: Digest,
}

impl Pending {
    /// The process, to load the object with.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.ctx.app
    }

    /// Checks the gateway of the object, with a role not below the declared one, and opens the intent of a write.
    pub async fn on(mut self, gateway: GatewayId, role: Role) -> Result<Ctx, Error> {
        let app = Arc::clone(&self.ctx.app);
        let principal = self.ctx.principal().ok_or_else(|| Error::internal("no caller"))?;
        let missing = || Error::missing(Kind::Gateway, gateway);
        let name = app.snapshot.gateway_name(gateway).ok_or_else(missing)?;
        let held = app.snapshot.role_on(principal, gateway);
        if held == Role::None {
            return Err(missing());
        }
        enough(held, role.max(self.least), Some(&name))?;
        self.ctx.on = Some((gateway, name));
        self.ctx.role = held;
        if self.method.audit == crate::access::policy::Audit::Write {
            open(&self.ctx, self.method, String::new(), self.digest).await?;
        }
        Ok(self.ctx)
    }
}

/// A call of a public method: nobody yet.
#[derive(Debug)]
pub struct Anonymous {
    app: Arc<App>,
    call: Call,
    method: &'static Method,
    target: String,
    digest: Digest,
}

impl Anonymous {
    /// The process.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Where the call comes from.
    #[must_use]
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.call.client_ip
    }

    /// The caller has proved who it is by what the message holds: from here on it is a call like any other, and in a
    /// write the intent is stored now. A flood of wrong guesses therefore stores nothing (T16).
    pub async fn becomes(
        self,
        actor: Arc<str>,
        principal: Option<PrincipalId>,
        role: Role,
    ) -> Result<Ctx, Error> {
        let intent = Intent {
            principal,
            actor,
            role,
            ..intent(&self.call, self.method, self.target, self.digest)
        };
        let entry = self.app.audit.open(intent).await?;
        self.call.note.lock().entry = Some(entry);
        let ctx =
            Ctx { app: self.app, call: Some(self.call), who: Who::System("login"), role, on: None };
        Ok(ctx)
    }
}

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
    target: String,
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
        let (method, target) = (granted.method, granted.target.clone());
        let ctx = granted.ctx();
        if write {
            open(&ctx, method, target, digest).await?;
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
        let method = granted.method;
        Ok(Self { ctx: granted.ctx(), least: least(method), method, digest })
    }
}

impl Grant for Anonymous {
    async fn grant(granted: Granted, digest: Digest, _write: bool) -> Result<Self, Error> {
        let Granted { app, call, method, target, .. } = granted;
        Ok(Self { app, call, method, target, digest })
    }
}

fn least(method: &Method) -> Role {
    match method.access {
        Access::Role(role) => role,
        Access::Public | Access::Authenticated => Role::None,
    }
}

fn enough(held: Role, needed: Role, gateway: Option<&str>) -> Result<(), Error> {
    if held >= needed {
        return Ok(());
    }
    let place =
        gateway.map_or_else(|| "globally".to_owned(), |name| format!("on gateway `{name}`"));
    Err(Error::Denied {
        why: format!("role `{needed}` is needed {place}, the caller has `{held}`"),
    })
}

fn intent(call: &Call, method: &Method, target: String, digest: Digest) -> Intent {
    Intent {
        at: call.at,
        actor: "anonymous".into(),
        principal: None,
        role: Role::None,
        action: method.action,
        resource_type: method.resource,
        resource_id: target,
        gateway: None,
        client_ip: call.client_ip,
        request_id: call.request_id,
        method: method.path.into(),
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
        ..intent(&granted.call, granted.method, granted.target.clone(), digest)
    }
}

/// What the audit log is to hold of a checked call.
fn intent_of(ctx: &Ctx, method: &Method, target: String, digest: Digest) -> Option<Intent> {
    let call = ctx.call.as_ref()?;
    Some(Intent {
        actor: ctx.actor(),
        principal: ctx.principal(),
        role: ctx.role,
        gateway: ctx.on.clone().map(|(id, name)| (Some(id), name)),
        ..intent(call, method, target, digest)
    })
}

async fn open(ctx: &Ctx, method: &Method, target: String, digest: Digest) -> Result<(), Error> {
    let (Some(call), Some(intent)) = (&ctx.call, intent_of(ctx, method, target, digest)) else {
        return Ok(());
    };
    let entry = ctx.app.audit.open(intent).await?;
    call.note.lock().entry = Some(entry);
    Ok(())
}

/// Checks the exact scope of a decoded message. A refusal is noted for the audit log.
pub(crate) fn authorize<M: Rpc>(app: &Arc<App>, call: Call, message: &M) -> Result<Granted, Error> {
    let method = M::METHOD;
    let target = message.target();
    match decide(app, &call, method, &message.scope()) {
        Ok((caller, role, on)) => {
            Ok(Granted { app: Arc::clone(app), call, method, caller, role, on, target })
        }
        Err((error, gateway, role)) => {
            let refusal =
                Refusal { action: method.action, resource: method.resource, target, gateway, role };
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
            let named: Vec<&str> = names.iter().copied().filter(|name| !name.is_empty()).collect();
            return on_all(app, caller, global, needed, &named);
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
