//! Work whose replica is gone, taken over by this one in the name of whoever began it.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::{Call, Ctx, GatewayRef, Note, Who};
use crate::access::policy::About;
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::audit::Intent;
use crate::error::Error;
use crate::role::Role;

/// Whose work it is, as it was checked when it was begun.
#[derive(Debug)]
pub(crate) struct TakenOver {
    /// Name of whoever began it.
    pub(crate) actor: Arc<str>,
    /// What identifies them for good.
    pub(crate) principal: Option<PrincipalId>,
    /// The role that they had then.
    pub(crate) role: Role,
    /// Where the work is done.
    pub(crate) gateway: GatewayRef,
    /// Id of the call that began it.
    pub(crate) request_id: Uuid,
    /// What the audit log says that it is about.
    pub(crate) about: About,
    /// What else the audit log is to know.
    pub(crate) detail: serde_json::Value,
}

impl Ctx {
    /// From here on the work is done here: an intent of its own is durable when this answers. That of the call that
    /// began it is closed as `unknown` by whoever finds its replica dead.
    ///
    /// # Errors
    /// `AUDIT_UNAVAILABLE`: nothing may happen.
    pub(crate) async fn taken_over(app: &Arc<App>, work: TakenOver) -> Result<Self, Error> {
        let TakenOver { actor, principal, role, gateway, request_id, .. } = work;
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
        let note = Arc::new(Note::default());
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
            held: None,
            taking: None,
        };
        let who = Who::Proved(principal, actor);
        Ok(Self { app: Arc::clone(app), call: Some(call), who, role, on: Some(gateway) })
    }
}
