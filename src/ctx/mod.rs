//! The caller and scope of a call: the proof that access was checked.
//!
//! Invariants
//! - fields are private and only `authorize`, [`PendingCtx::authorize_on_gateway`],
//!   [`PendingCtx::authorize_for_owner`], [`AnonymousCtx::identify`], `Ctx::from_verified_sender`,
//!   `Ctx::from_proxied_call`, `Ctx::from_takeover`, `Ctx::for_own_work` and `Ctx::system` make a [`Ctx`], so a domain
//!   function that takes one cannot be reached without a check;
//! - a gateway on which the caller has no role is reported as missing.

mod authorize;
mod call;
mod deferred;
mod long_work;
mod pages;
mod pending;
mod proved;
mod refusal;
mod taken_over;
mod transaction;

use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::access::policy::AuditSubject;
use crate::access::principal::{self, Caller, PrincipalId};
use crate::access::snapshot::VisibleGateways;
use crate::app::App;
use crate::audit::Intent;
use crate::clock::Timestamp;
use crate::db::Db;
use crate::db::types::UserId;
use crate::digest::Digest;
use crate::error::{Error, ResourceKind};
use crate::labels::Selector;
use crate::outbox::{EventType, NewEvent};
use crate::role::Role;

pub use self::authorize::{AuthorizedCall, CallContext};
pub(crate) use self::authorize::{authorize, lost_access_error, read_intent};
use self::authorize::{build_intent, require_role};
pub use self::call::{AuditNotes, AuditNotesState, Call, ObjectAccess};
pub use self::pages::{ListKey, PageRequest};
pub use self::pending::PendingCtx;
pub use self::proved::VerifiedSender;
pub(crate) use self::refusal::record as record_refusal;
pub use self::refusal::{Refusal, RefusalReason};
pub(crate) use self::taken_over::Takeover;
pub use self::transaction::Tx;
pub use crate::db::types::GatewayRef;

/// Maximum length of a display name in a row, in characters.
const STORED_ACTOR_CHARACTERS_MAX: usize = 254;

/// A checked call: global, or on one gateway.
#[derive(Debug, Clone)]
pub struct Ctx {
    app: Arc<App>,
    call: Option<Call>,
    identity: CallerIdentity,
    role: Role,
    gateway: Option<GatewayRef>,
}

#[derive(Debug, Clone)]
enum CallerIdentity {
    Caller(Caller),
    /// A caller of a public method, identified by a proof in its message. Without a principal it is anonymous and has
    /// no rights of its own.
    Verified(Option<PrincipalId>, Arc<str>),
    System(&'static str),
}

impl Ctx {
    /// Returns the context of a background job, which no caller started.
    pub(crate) fn system(app: &Arc<App>, job: &'static str) -> Self {
        Self {
            app: Arc::clone(app),
            call: None,
            identity: CallerIdentity::System(job),
            role: Role::Admin,
            gateway: None,
        }
    }

    /// Sets the gateway: for background jobs and offline commands, which have no scope to check.
    pub(crate) fn with_gateway(self, gateway: GatewayRef) -> Self {
        Self { gateway: Some(gateway), ..self }
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

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.app.clock.now()
    }

    /// Returns an event by this caller with the current time, about the gateway of the call if it has one.
    #[must_use]
    pub fn new_event(&self, event_type: EventType, payload: Value) -> NewEvent {
        let gateway = self.gateway().cloned();
        NewEvent { event_type, gateway, actor: self.actor(), payload, at: self.now() }
    }

    /// Returns an intent by this caller, about the gateway of the call if it has one: for an entry in addition to the
    /// call's own.
    #[must_use]
    pub fn new_intent(&self, about: AuditSubject) -> Intent {
        Intent {
            actor: self.actor(),
            principal: self.principal(),
            role: self.role,
            gateway: self.gateway.clone().map(Into::into),
            client_ip: self.client_ip(),
            request_id: self.request_id(),
            ..Intent::new(self.now(), about)
        }
    }

    /// The caller's display name.
    #[must_use]
    pub fn actor(&self) -> Arc<str> {
        match &self.identity {
            CallerIdentity::Caller(caller) => Arc::clone(caller.actor()),
            CallerIdentity::Verified(_, actor) => Arc::clone(actor),
            CallerIdentity::System(job) => format!("system:{job}").into(),
        }
    }

    /// Identifies the caller permanently. `None` for a background job and for a call without a known principal.
    #[must_use]
    pub fn principal(&self) -> Option<PrincipalId> {
        match &self.identity {
            CallerIdentity::Caller(caller) => Some(caller.principal()),
            CallerIdentity::Verified(principal, _) => *principal,
            CallerIdentity::System(_) => None,
        }
    }

    /// The caller's display name as rows store it, cut after 254 characters.
    #[must_use]
    pub fn stored_actor(&self) -> String {
        self.actor().chars().take(STORED_ACTOR_CHARACTERS_MAX).collect()
    }

    /// The principal as text, which page tokens are bound to.
    #[must_use]
    pub fn principal_text(&self) -> String {
        match self.principal() {
            Some(principal) => principal.to_string(),
            None if self.is_system() => "system".to_owned(),
            None => "nobody".to_owned(),
        }
    }

    /// Whether this is work of the server itself: a background job or a command on the host. A call never is, even
    /// without a known caller: a missing principal must not grant rights.
    #[must_use]
    pub fn is_system(&self) -> bool {
        match &self.identity {
            CallerIdentity::System(_) => self.call.is_none(),
            CallerIdentity::Caller(_) | CallerIdentity::Verified(..) => false,
        }
    }

    /// The caller; `None` for a background job and for a caller identified by a proof in its message.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        match &self.identity {
            CallerIdentity::Caller(caller) => Some(caller),
            CallerIdentity::Verified(..) | CallerIdentity::System(_) => None,
        }
    }

    /// Whether it is known who holds the key of the caller. During the overlap of a rotation, the previous key can be that
    /// of a former rotator, who is not one of the people behind the service principal any more, and would count beside it
    /// (T12).
    #[must_use]
    pub fn is_key_holder_known(&self) -> bool {
        self.caller().is_none_or(|caller| self.app().snapshot.is_key_holder_known(caller))
    }

    /// The caller's role in this scope.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Refuses a role above the caller's own: a caller cannot grant, change or revoke more than it holds.
    pub fn check_role_not_above(&self, role: Role) -> Result<(), Error> {
        if role <= self.role {
            return Ok(());
        }
        let why = format!("role `{role}` is above the caller's own, `{}`", self.role);
        Err(Error::Denied { why })
    }

    /// Counts a credential that the caller creates. Commands on the host are not limited.
    pub fn admit_credential(&self) -> Result<(), Error> {
        match self.principal() {
            Some(principal) => self.app.credential_limit.admit(principal),
            None if self.is_system() => Ok(()),
            None => Err(Error::Denied { why: "only a known caller makes credentials".to_owned() }),
        }
    }

    /// Whether the caller is a global admin according to the snapshot. True for the server's own work, false for a call
    /// without a principal.
    #[must_use]
    pub fn is_global_admin(&self) -> bool {
        match self.principal() {
            Some(principal) => self.app.snapshot.global_role(principal) == Role::Admin,
            None => self.is_system(),
        }
    }

    /// The gateway that was checked; `None` if the scope is not a gateway.
    #[must_use]
    pub fn gateway(&self) -> Option<&GatewayRef> {
        self.gateway.as_ref()
    }

    /// The gateway that was checked. Fails if the request names none.
    pub fn required_gateway(&self) -> Result<&GatewayRef, Error> {
        self.gateway.as_ref().ok_or_else(|| Error::invalid("gateway", "is required"))
    }

    /// Client address.
    #[must_use]
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.call.as_ref().and_then(|call| call.client_ip)
    }

    /// The calling user.
    ///
    /// # Errors
    /// `ROLE_TOO_LOW` for a service principal: the method is for users only.
    pub fn user(&self) -> Result<UserId, Error> {
        let caller = self.principal().ok_or_else(principal::not_a_user_error)?;
        principal::require_user(caller)
    }

    /// Id of the call, as in the log; a new one for a background job.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.call.as_ref().map_or_else(|| self.app.new_request_id(), |call| call.request_id)
    }

    /// Counts bytes of a stream, from the caller and to the caller, for the audit log.
    pub fn count_bytes(&self, sent: usize, received: usize) {
        if let Some(call) = &self.call {
            let mut noted = call.note.lock();
            let (before_sent, before_received) = noted.bytes.unwrap_or_default();
            noted.bytes = Some((before_sent + sent as u64, before_received + received as u64));
        }
    }

    /// Adds a detail to the audit entry of this call. Must not be a secret.
    pub fn add_audit_detail(&self, key: &str, value: impl Into<Value>) {
        if let Some(call) = &self.call {
            call.note.lock().detail.insert(key.to_owned(), value.into());
        }
    }
}

/// A checked call about the fleet: the caller holds the required role on at least one gateway.
#[derive(Debug, Clone)]
pub struct FleetCtx {
    ctx: Ctx,
    min_role: Role,
}

impl FleetCtx {
    /// The gateways that the caller can currently see in the response.
    #[must_use]
    pub fn visible_gateways(&self) -> VisibleGateways {
        self.gateways_with_role(Role::Viewer)
    }

    /// The names of these gateways; `None` if the caller can see all of them.
    #[must_use]
    pub fn visible_gateway_names(&self) -> Option<Vec<String>> {
        let VisibleGateways::Only(ids) = self.visible_gateways() else { return None };
        let name = |id| self.ctx.app.snapshot.gateway_name(id).map(|name| name.to_string());
        Some(ids.into_iter().filter_map(name).collect())
    }

    /// The gateways on which the caller currently holds at least `role`.
    #[must_use]
    pub fn gateways_with_role(&self, role: Role) -> VisibleGateways {
        match self.ctx.principal() {
            Some(principal) => {
                self.ctx.app.snapshot.visible_gateways(principal, self.min_role.max(role))
            }
            None if self.ctx.is_system() => VisibleGateways::All,
            None => VisibleGateways::Only(Vec::new()),
        }
    }

    /// Returns the gateways that the caller can see and `selector` matches, sorted by name, starting at `from`.
    #[must_use]
    pub fn matching_gateways(&self, selector: &Selector, from: Bound<&str>) -> Vec<GatewayRef> {
        self.ctx.app.snapshot.matching_gateways(&self.visible_gateways(), selector, from)
    }

    /// Narrows the call to one gateway, which must be visible to the caller.
    pub fn require_gateway(&self, gateway: &str) -> Result<GatewayRef, Error> {
        let missing = || Error::not_found(ResourceKind::Gateway, gateway);
        let principal = self.ctx.principal().ok_or_else(missing)?;
        let found = self.ctx.app.snapshot.find_gateway(principal, gateway);
        let (gateway, role) = found.filter(|(_, role)| *role > Role::None).ok_or_else(missing)?;
        require_role(role, self.min_role, Some(&gateway.name))?;
        Ok(gateway)
    }
}

impl std::ops::Deref for FleetCtx {
    type Target = Ctx;

    fn deref(&self) -> &Ctx {
        &self.ctx
    }
}

/// A call of a public method, whose caller is not known yet.
#[derive(Debug)]
pub struct AnonymousCtx {
    app: Arc<App>,
    call: Call,
    about: AuditSubject,
    digest: Option<Digest>,
}

impl AnonymousCtx {
    /// The process.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Client address.
    #[must_use]
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.call.client_ip
    }

    /// Continues as a normal call of the caller that the message has identified; the intent of a write is stored now. A
    /// flood of wrong guesses therefore stores nothing (T16). If the message names no target, the target is the caller.
    pub async fn identify(
        self,
        actor: Arc<str>,
        principal: Option<PrincipalId>,
        role: Role,
    ) -> Result<Ctx, Error> {
        // The audit entry is all that an anonymous call stores, so the disk limit does not apply.
        if &*actor != "anonymous" {
            self.app.disk.admit(role)?;
        }
        let mut about = self.about;
        if about.target.is_empty() {
            about.target = actor.to_string();
        }
        let intent = Intent {
            actor: Arc::clone(&actor),
            principal,
            role,
            ..build_intent(&self.app, &self.call, about, self.digest)
        };
        let entry = self.app.audit.open(intent).await?;
        self.call.note.lock().entry = Some(entry);
        let identity = CallerIdentity::Verified(principal, actor);
        Ok(Ctx { app: self.app, call: Some(self.call), identity, role, gateway: None })
    }
}
