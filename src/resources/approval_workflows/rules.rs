//! What may replace a stored rule, and what weakens a new one. Pure.

use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::governance::{
    InForce, People, Rule, RuleChange, RuleScope, is_fragile, shortfall, weakens,
};
use crate::resources::stored_rules::domain::{StoredWorkflow, in_force};
use crate::role::Role;

/// Weakness of a workflow that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// The gateway approves proposals by itself.
    ApprovalModeAuto,
    /// The gateway did not report its approval mode.
    ApprovalModeUnknown,
    /// The rule cannot be met if one of its voters is absent.
    NoSpareVoter,
    /// Roles alone decide who votes.
    RolesAlone,
    /// The rule was only validated: a review would decide about it, since it is weaker.
    ReviewRequired,
}

/// Returns the name of a workflow in errors: gateway, workspace and sandbox.
#[must_use]
pub fn display_name(gateway: &str, scope: &RuleScope) -> String {
    let parts = [Some(gateway), scope.workspace(), scope.sandbox()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

/// Returns the workflow of exactly a scope.
///
/// # Errors
/// `NotFound`.
pub fn find<'a>(
    workflows: &'a [StoredWorkflow],
    gateway: &str,
    scope: &RuleScope,
) -> Result<&'a StoredWorkflow, Error> {
    of_scope(workflows, gateway, scope).ok_or_else(|| {
        Error::not_found(ResourceKind::ApprovalWorkflow, display_name(gateway, scope))
    })
}

/// Returns the workflow of exactly a scope of a gateway, if there is one.
#[must_use]
pub fn of_scope<'a>(
    workflows: &'a [StoredWorkflow],
    gateway: &str,
    scope: &RuleScope,
) -> Option<&'a StoredWorkflow> {
    workflows.iter().find(|workflow| workflow.gateway == gateway && workflow.scope == *scope)
}

/// Checks the etag of the workflow of a scope. An etag is that of no workflow if the scope has none.
///
/// # Errors
/// `Conflict`.
pub fn check_etag(given: &str, before: Option<&StoredWorkflow>, name: &str) -> Result<(), Error> {
    match before {
        Some(before) => etag::check(given, before.version, ResourceKind::ApprovalWorkflow, name),
        None if given.is_empty() => Ok(()),
        None => Err(Error::conflict(ResourceKind::ApprovalWorkflow, name)),
    }
}

/// Returns the change in which a rule, or none, replaces a stored one. If this version cannot read the stored rule, any
/// other counts as weaker.
#[must_use]
pub fn replacement(before: &StoredWorkflow, new: Option<&Rule>) -> RuleChange {
    let weakens = before.rule().is_none_or(|old| weakens(&[old], new));
    RuleChange { weakens, least_role: Role::None }
}

/// Returns the workflows that apply to a change of the workflow of a scope: those of this scope, including the changed
/// workflow, and of the wider scopes.
#[must_use]
pub fn containing(workflows: &[StoredWorkflow], scope: &RuleScope) -> InForce {
    in_force(workflows.iter().filter(|stored| stored.scope.contains(scope)))
}

/// Refuses a rule that cannot be met.
///
/// # Errors
/// `QUORUM_UNREACHABLE`.
pub fn check_reachable(rule: &Rule, people: &People) -> Result<(), Error> {
    let Some(lacking) = shortfall(rule, people, None) else { return Ok(()) };
    let why = format!(
        "group `{}` requires {} approvals and can get {}: name more voters, or add members",
        lacking.group, lacking.need, lacking.have
    );
    let facts = [
        ("group", lacking.group),
        ("need", lacking.need.to_string()),
        ("have", lacking.have.to_string()),
    ];
    Err(Error::explained(Reason::QuorumUnreachable, why, facts))
}

/// Returns what weakens a rule that can be met.
#[must_use]
pub fn warnings(rule: &Rule, people: &People) -> Vec<Warning> {
    let by_role = rule.voter_sets().any(|(_, set)| !set.is_named());
    let found = [(is_fragile(rule, people), Warning::NoSpareVoter), (by_role, Warning::RolesAlone)];
    found.into_iter().filter(|(is_there, _)| *is_there).map(|(_, warning)| warning).collect()
}
