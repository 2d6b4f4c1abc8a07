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
    let NewSandbox { workspace, name, policy, providers, .. } = &create.new;
    let place = SandboxName { workspace: workspace.clone(), name: name.clone() };
    // The operation of an older build does not say what a template gave.
    let from_anyone = policy.is_some() || !providers.is_empty();
    let brings_policy = create.brings_policy.unwrap_or(from_anyone);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn brings_policy(create: &SandboxCreation) -> bool {
        matches!(gate_call(create).asked, Asked::Create { brings_policy: true, .. })
    }

    #[test]
    fn a_creation_of_an_older_build_brings_what_it_contains() {
        let create = |new: NewSandbox| SandboxCreation {
            new,
            description: None,
            labels: BTreeMap::new(),
            skip_hooks: false,
            brings_policy: Some(false),
            presets: Vec::new(),
        };
        let plain = NewSandbox { name: "one".to_owned(), ..NewSandbox::default() };
        let with_providers = NewSandbox { providers: vec!["github".to_owned()], ..plain.clone() };
        let with_policy = NewSandbox { policy: Some(Vec::new()), ..plain.clone() };
        for (new, expected) in [(plain, false), (with_providers, true), (with_policy, true)] {
            let create = create(new);
            assert!(!brings_policy(&create), "a template of this server gave it");
            let mut stored = json!(create);
            stored.as_object_mut().unwrap().remove("brings_policy").unwrap();
            let stored: SandboxCreation = serde_json::from_value(stored).unwrap();
            assert_eq!(brings_policy(&stored), expected, "{stored:?}");
        }
    }
}
