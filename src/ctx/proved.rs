//! A request by plain HTTP whose sender has proved who it is by what the body holds: a key, a refresh token, a device
//! code that was approved.

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

/// Who it is, and what is about to happen.
#[derive(Debug)]
pub struct Proved {
    /// Name of the one who asks.
    pub actor: Arc<str>,
    /// What identifies it for good.
    pub principal: PrincipalId,
    /// The role that it has on the gateway; never none.
    pub role: Role,
    /// The gateway that it asks about.
    pub gateway: GatewayRef,
    /// The audit action.
    pub action: Action,
}

impl Ctx {
    /// A call of the proxied API, which the proxy has let through and whose intent is stored.
    pub(crate) fn proxied(app: &Arc<App>, call: Call, role: Role, on: GatewayRef) -> Self {
        let nobody = || Who::Proved(None, "anonymous".into());
        let who = call.caller.clone().map_or_else(nobody, Who::Caller);
        Self { app: Arc::clone(app), call: Some(call), who, role, on: Some(on) }
    }

    /// From here on it is a call like any other: its intent is durable when this answers.
    ///
    /// # Errors
    /// `AUDIT_UNAVAILABLE`: nothing may happen.
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
