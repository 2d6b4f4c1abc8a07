//! Plain HTTP requests whose body identifies the sender: by a key, a refresh token or an approved device code.

use std::sync::Arc;

use super::authorize::build_intent;
use super::{Call, CallerIdentity, Ctx, GatewayRef};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::audit::Intent;
use crate::error::Error;
use crate::role::Role;

/// The sender and the action.
#[derive(Debug)]
pub struct VerifiedSender {
    /// Display name of the sender.
    pub actor: Arc<str>,
    /// Identifies the sender permanently.
    pub principal: PrincipalId,
    /// The sender's role on the gateway; never [`Role::None`].
    pub role: Role,
    /// The gateway that the request is about.
    pub gateway: GatewayRef,
    /// The audit action.
    pub action: Action,
}

impl Ctx {
    /// Returns the context of a call of the proxied API that the proxy has checked and whose intent is stored.
    pub(crate) fn from_proxied_call(
        app: &Arc<App>,
        call: Call,
        role: Role,
        gateway: GatewayRef,
    ) -> Self {
        let nobody = || CallerIdentity::Verified(None, "anonymous".into());
        let identity = call.caller.clone().map_or_else(nobody, CallerIdentity::Caller);
        Self { app: Arc::clone(app), call: Some(call), identity, role, gateway: Some(gateway) }
    }

    /// Continues as a normal call. Returns after its intent is durable.
    ///
    /// # Errors
    /// `AUDIT_UNAVAILABLE` if the intent cannot be stored: the caller of this function must not proceed.
    pub(crate) async fn from_verified_sender(
        app: &Arc<App>,
        call: Call,
        proved: VerifiedSender,
    ) -> Result<Self, Error> {
        let VerifiedSender { actor, principal, role, gateway, action } = proved;
        let about = AuditSubject::new(action, &*gateway.name);
        let intent = Intent {
            actor: Arc::clone(&actor),
            principal: Some(principal),
            role,
            gateway: Some(gateway.clone().into()),
            ..build_intent(app, &call, about, None)
        };
        let entry = app.audit.open(intent).await?;
        call.note.lock().entry = Some(entry);
        let identity = CallerIdentity::Verified(Some(principal), actor);
        Ok(Self { app: Arc::clone(app), call: Some(call), identity, role, gateway: Some(gateway) })
    }
}
