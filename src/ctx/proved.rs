//! Plain HTTP requests whose body identifies the sender: by a key, a refresh token or an approved device code.

use std::sync::Arc;

use super::authorize::intent;
use super::{Call, Ctx, GatewayRef, Who};
use crate::access::action::Action;
use crate::access::policy::About;
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::audit::Intent;
use crate::error::Error;
use crate::role::Role;

/// The sender and the action.
#[derive(Debug)]
pub struct Proved {
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
    pub(crate) fn proxied(app: &Arc<App>, call: Call, role: Role, on: GatewayRef) -> Self {
        let nobody = || Who::Proved(None, "anonymous".into());
        let who = call.caller.clone().map_or_else(nobody, Who::Caller);
        Self { app: Arc::clone(app), call: Some(call), who, role, on: Some(on) }
    }

    /// Continues as a normal call. Returns after its intent is durable.
    ///
    /// # Errors
    /// `AUDIT_UNAVAILABLE` if the intent cannot be stored: the caller of this function must not proceed.
    pub(crate) async fn proved(app: &Arc<App>, call: Call, proved: Proved) -> Result<Self, Error> {
        let Proved { actor, principal, role, gateway, action } = proved;
        let about = About::new(action, &*gateway.name);
        let intent = Intent {
            actor: Arc::clone(&actor),
            principal: Some(principal),
            role,
            gateway: Some(gateway.clone().into()),
            ..intent(app, &call, about, None)
        };
        let entry = app.audit.open(intent).await?;
        call.note.lock().entry = Some(entry);
        let who = Who::Proved(Some(principal), actor);
        Ok(Self { app: Arc::clone(app), call: Some(call), who, role, on: Some(gateway) })
    }
}
