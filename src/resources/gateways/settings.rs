//! Settings of a gateway and of its sandboxes. The gateway stores them; Shoreguard stores only the resulting findings.
//!
//! Invariants
//! - only settings that this build knows can be set, to values of their type (T05);
//! - setting one requires the admin role on the gateway, as through the proxy;
//! - a pin or an approval workflow refuses a setting that can change what policies allow;
//! - after a change that may open or close a finding, the gateway is checked again at once.

use serde_json::{Value as Json, json};

use super::findings;
use crate::access::action::Action;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::settings::{
    APPROVAL_MODE, Scope, Setting, SettingChangeResult, SettingKey, Value,
};
use crate::outbox::{EventType, event_types};
use crate::resources::approvals::gate::{self, Asked, GateCall};
use crate::resources::sandboxes;

/// Target of a setting: the whole gateway (`None`) or one of its sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingTarget(pub Option<SandboxName>);

impl SettingTarget {
    /// Parses the workspace and the sandbox of a request.
    pub fn parse(workspace: &str, sandbox: &str) -> Result<Self, Error> {
        if !sandbox.is_empty() {
            return Ok(Self(Some(sandboxes::input::full_name(workspace, sandbox)?)));
        }
        if !workspace.is_empty() {
            return Err(Error::invalid("workspace", "must be empty if `sandbox` is empty"));
        }
        Ok(Self(None))
    }
}

async fn connect(ctx: &Ctx) -> Result<Gateway, Error> {
    Ok(Gateway::connect(ctx.app(), ctx.required_gateway()?).await?.on_behalf_of(ctx))
}

/// Returns the settings of the gateway of the call or of one of its sandboxes, and their revision.
pub async fn list(ctx: &Ctx, of: &SettingTarget) -> Result<(Vec<Setting>, u64), Error> {
    connect(ctx).await?.settings(of.0.as_ref()).await
}

/// Sets a setting.
pub async fn update(
    ctx: &Ctx,
    of: &SettingTarget,
    key: SettingKey,
    value: Value,
) -> Result<(Setting, SettingChangeResult), Error> {
    ctx.add_audit_detail("value", to_json(&value));
    let changed = change(ctx, of, key, Some(&value)).await?;
    let payload = json!({ "key": key.as_str(), "value": to_json(&value) });
    emit_event(ctx, of, event_types::GATEWAY_SETTING_UPDATED, payload).await?;
    recheck_findings(ctx, of, key).await;
    let scope = if of.0.is_some() { Scope::Sandbox } else { Scope::Gateway };
    Ok((Setting { key: key.as_str().to_owned(), value: Some(value), scope }, changed))
}

/// Deletes a setting.
pub async fn delete(
    ctx: &Ctx,
    of: &SettingTarget,
    key: SettingKey,
) -> Result<SettingChangeResult, Error> {
    let changed = change(ctx, of, key, None).await?;
    ctx.add_audit_detail("deleted", changed.deleted);
    if changed.deleted {
        emit_event(ctx, of, event_types::GATEWAY_SETTING_DELETED, json!({ "key": key.as_str() }))
            .await?;
        recheck_findings(ctx, of, key).await;
    }
    Ok(changed)
}

async fn change(
    ctx: &Ctx,
    of: &SettingTarget,
    key: SettingKey,
    value: Option<&Value>,
) -> Result<SettingChangeResult, Error> {
    ctx.add_audit_detail("key", key.as_str());
    if let Some(place) = &of.0 {
        ctx.add_audit_detail("workspace", place.workspace.as_str());
        ctx.add_audit_detail("sandbox", place.name.as_str());
    }
    let gateway = connect(ctx).await?;
    // Access may have changed while waiting for the gateway.
    ctx.recheck()?;
    let text = value.map(|value| match value {
        Value::Text(word) => word.as_str(),
        Value::Bool(_) | Value::Int(_) | Value::Opaque => "",
    });
    let action = if value.is_some() {
        Action::GATEWAY_SETTING_UPDATE
    } else {
        Action::GATEWAY_SETTING_DELETE
    };
    let call = GateCall::new(Asked::setting(of.0.clone(), key.as_str(), text), action);
    let passed = gate::pass(ctx, &gateway, &call).await?;
    let changed = gateway.change_setting(of.0.as_ref(), key, value, passed.until).await;
    gate::finish(ctx, passed).await;
    changed
}

async fn emit_event(
    ctx: &Ctx,
    of: &SettingTarget,
    event_type: EventType,
    mut payload: Json,
) -> Result<(), Error> {
    payload["gateway"] = (*ctx.required_gateway()?.name).into();
    if let Some(place) = &of.0 {
        payload = sandboxes::domain::event_payload(place, payload);
    }
    let event = ctx.new_event(event_type, payload);
    ctx.record_change(async |tx| tx.emit(event.clone()).await).await?;
    Ok(())
}

/// Checks the findings of the gateway again after a change of the approval mode. A failure is only logged, since the
/// gateway has accepted the change.
async fn recheck_findings(ctx: &Ctx, of: &SettingTarget, key: SettingKey) {
    if of.0.is_some() || key.as_str() != APPROVAL_MODE {
        return;
    }
    let Ok(on) = ctx.required_gateway() else { return };
    if let Err(error) = findings::check_gateway(ctx, on).await {
        tracing::warn!(gateway = %on.name, %error, "a gateway was not looked at after a change");
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(switch) => (*switch).into(),
        Value::Text(word) => word.as_str().into(),
        Value::Int(number) => (*number).into(),
        Value::Opaque => Json::Null,
    }
}
