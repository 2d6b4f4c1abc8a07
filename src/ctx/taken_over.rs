//! Work of a dead replica that this one continues on behalf of the principal that started it.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::{AuditNotes, Call, CallerIdentity, Ctx, GatewayRef};
use crate::access::policy::AuditSubject;
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::audit::Intent;
use crate::error::Error;
use crate::role::Role;

/// The work to continue, and the principal that started it with the role it had then.
#[derive(Debug)]
pub(crate) struct Takeover {
    /// Display name of the principal that started it.
    pub(crate) actor: Arc<str>,
    /// Identifies that principal permanently.
    pub(crate) principal: Option<PrincipalId>,
    /// The role of that principal at the start.
    pub(crate) role: Role,
    /// The gateway of the work.
    pub(crate) gateway: GatewayRef,
    /// Id of the call that started it.
    pub(crate) request_id: Uuid,
    /// The action and target of the audit entry.
    pub(crate) about: AuditSubject,
    /// Further details for the audit log.
    pub(crate) detail: serde_json::Value,
}

impl Ctx {
    /// Begins the server's own work on a gateway, as `job`. Returns after an intent is durable, which the work closes.
    ///
    /// # Errors
    /// `AUDIT_UNAVAILABLE` if the intent cannot be stored: the work must not begin.
    pub(crate) async fn for_own_work(
        app: &Arc<App>,
        job: &str,
        gateway: GatewayRef,
        about: AuditSubject,
        detail: serde_json::Value,
    ) -> Result<Self, Error> {
        let (actor, role) = (format!("system:{job}").into(), Role::Admin);
        let request_id = app.new_request_id();
        let work = Takeover { actor, principal: None, role, gateway, request_id, about, detail };
        Self::from_takeover(app, work).await
    }

    /// Continues the work on this replica. Returns after an intent of its own is durable. The entry of the call that
    /// started it is closed as `unknown` by the replica that detects the crash.
    ///
    /// # Errors
    /// `AUDIT_UNAVAILABLE` if the intent cannot be stored: the work must not continue.
    pub(crate) async fn from_takeover(app: &Arc<App>, work: Takeover) -> Result<Self, Error> {
        let Takeover { actor, principal, role, gateway, request_id, .. } = work;
        let at = app.clock.now();
        let intent = Intent {
            actor: Arc::clone(&actor),
            principal,
            role,
            gateway: Some(gateway.clone().into()),
            request_id,
            detail: Some(work.detail),
            ..Intent::new(at, work.about)
        };
        let note = Arc::new(AuditNotes::default());
        note.lock().entry = Some(app.audit.open(intent).await?);
        let call = Call {
            request_id,
            at,
            started: Instant::now(),
            deadline: None,
            client_ip: None,
            caller: None,
            method: "",
            note,
            traceparent: None,
            memory: None,
            read_tracker: None,
        };
        let identity = CallerIdentity::Verified(principal, actor);
        Ok(Self { app: Arc::clone(app), call: Some(call), identity, role, gateway: Some(gateway) })
    }
}
