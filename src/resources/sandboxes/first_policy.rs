//! The first policy of a sandbox that is created through Shoreguard's own API under a rule.

use std::borrow::Cow;

use super::create::SandboxCreation;
use super::presets;
use crate::access::action::Action;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::sandbox::NewSandbox;
use crate::resources::approvals::gate::{Asked, GateCall, Passed};

/// Returns what a creation asks for.
pub(super) fn gate_call(create: &SandboxCreation) -> GateCall {
    let NewSandbox { workspace, name, .. } = &create.new;
    let place = SandboxName { workspace: workspace.clone(), name: name.clone() };
    // The operation of an older build does not say what its caller gave.
    let brings_policy = create.brings_policy || create.new.policy.is_some();
    let asked = Asked::Create { place, brings_policy };
    GateCall::new(asked, Action::SANDBOX_CREATE)
}

/// Returns the sandbox that is created. Under a rule it has a policy of this server, with the presets of its template,
/// and never that of its image.
///
/// # Errors
/// Those of a preset, which were checked before the creation began.
pub(super) fn with_first_policy<'a>(
    ctx: &Ctx,
    gateway: &Gateway,
    create: &'a SandboxCreation,
    passed: &Passed,
) -> Result<Cow<'a, NewSandbox>, Error> {
    let new = &create.new;
    if !passed.needs_initial_policy {
        return Ok(Cow::Borrowed(new));
    }
    let first = presets::first_policy(ctx, gateway.generation(), &create.presets)?;
    Ok(Cow::Owned(NewSandbox { policy: Some(first.encoded().to_vec()), ..new.clone() }))
}
