//! Settings of a gateway and of its sandboxes. The gateway stores them; Shoreguard stores only the resulting findings.
//!
//! Invariants
//! - only settings that this build knows can be set, to values of their type (T05);
//! - setting one requires the admin role on the gateway, as through the proxy;
//! - after a change that may open or close a finding, the gateway is checked again at once.

use serde_json::{Value as Json, json};

use super::findings;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::settings::{APPROVAL_MODE, Changed, Key, Scope, Setting, Value};
use crate::outbox::{EventType, event_types};
use crate::resources::sandboxes;

/// Target of a setting: the whole gateway (`None`) or one of its sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Of(pub Option<SandboxName>);

impl Of {
    /// Parses the workspace and the sandbox of a request.
    pub fn parse(workspace: &str, sandbox: &str) -> Result<Self, Error> {
        if !sandbox.is_empty() {
            return Ok(Self(Some(sandboxes::input::place(workspace, sandbox)?)));
        }
        if !workspace.is_empty() {
            return Err(Error::invalid("workspace", "must be empty if `sandbox` is empty"));
        }
        Ok(Self(None))
    }
}

async fn reach(ctx: &Ctx) -> Result<Gateway, Error> {
    let id = ctx.on_gateway()?.id;
    Ok(Gateway::reach(ctx.app(), id).await?.asked_by(ctx))
}

/// Returns the settings of the gateway of the call or of one of its sandboxes, and their revision.
pub async fn list(ctx: &Ctx, of: &Of) -> Result<(Vec<Setting>, u64), Error> {
    reach(ctx).await?.settings(of.0.as_ref()).await
}

/// Sets a setting.
pub async fn update(
    ctx: &Ctx,
    of: &Of,
    key: Key,
    value: Value,
) -> Result<(Setting, Changed), Error> {
    ctx.detail("value", shown(&value));
    let changed = change(ctx, of, key, Some(&value)).await?;
    let payload = json!({ "key": key.as_str(), "value": shown(&value) });
    announce(ctx, of, event_types::GATEWAY_SETTING_UPDATED, payload).await?;
    look_again(ctx, of, key).await;
    let scope = if of.0.is_some() { Scope::Sandbox } else { Scope::Gateway };
    Ok((Setting { key: key.as_str().to_owned(), value: Some(value), scope }, changed))
}

/// Deletes a setting.
pub async fn delete(ctx: &Ctx, of: &Of, key: Key) -> Result<Changed, Error> {
    let changed = change(ctx, of, key, None).await?;
    ctx.detail("deleted", changed.deleted);
    if changed.deleted {
        announce(ctx, of, event_types::GATEWAY_SETTING_DELETED, json!({ "key": key.as_str() }))
            .await?;
        look_again(ctx, of, key).await;
    }
    Ok(changed)
}

async fn change(ctx: &Ctx, of: &Of, key: Key, value: Option<&Value>) -> Result<Changed, Error> {
    ctx.detail("key", key.as_str());
    if let Some(place) = &of.0 {
        ctx.detail("workspace", place.workspace.as_str());
        ctx.detail("sandbox", place.name.as_str());
    }
    let gateway = reach(ctx).await?;
    // Access may have changed while waiting for the gateway.
    ctx.recheck()?;
    gateway.change_setting(of.0.as_ref(), key, value).await
}

async fn announce(
    ctx: &Ctx,
    of: &Of,
    event_type: EventType,
    mut payload: Json,
) -> Result<(), Error> {
    payload["gateway"] = (*ctx.on_gateway()?.name).into();
    if let Some(place) = &of.0 {
        payload = sandboxes::domain::about(place, payload);
    }
    let event = ctx.event(event_type, payload);
    ctx.record(async |tx| tx.emit(event.clone()).await).await?;
    Ok(())
}

/// Checks the findings of the gateway again after a change of the approval mode. A failure is only logged, since the
/// gateway has accepted the change.
async fn look_again(ctx: &Ctx, of: &Of, key: Key) {
    if of.0.is_some() || key.as_str() != APPROVAL_MODE {
        return;
    }
    let Ok(on) = ctx.on_gateway() else { return };
    if let Err(error) = findings::look(ctx, on).await {
        tracing::warn!(gateway = %on.name, %error, "a gateway was not looked at after a change");
    }
}

fn shown(value: &Value) -> Json {
    match value {
        Value::Bool(switch) => (*switch).into(),
        Value::Text(word) => word.as_str().into(),
        Value::Int(number) => (*number).into(),
        Value::Opaque => Json::Null,
    }
}
