//! What may replace a stored rule, and what weakens a new one. Pure.

use super::store::StoredWorkflow;
use crate::clock::Timestamp;
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::governance::{
    CallerFacts, Change, Doubt, InForce, People, Rule, RuleChange, RuleScope, Verdict, Workflow,
    is_fragile, judge, shortfall, weakens,
};
use crate::role::Role;

/// What weakens a workflow that was set.
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
    let found = workflows.iter().find(|workflow| workflow.scope == *scope);
    found.ok_or_else(|| {
        Error::not_found(ResourceKind::ApprovalWorkflow, display_name(gateway, scope))
    })
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

/// Returns whether a review must decide about a rule, or none, that replaces another one: a weaker one under the
/// workflows of its scope. They include the replaced one. If this version cannot read the stored rule, any other counts
/// as weaker.
///
/// # Errors
/// `GOVERNED` if a rule cannot be read, or it is not known who holds the key of the caller.
pub fn needs_review(
    workflows: &[StoredWorkflow],
    before: &StoredWorkflow,
    new: Option<&Rule>,
    caller: &CallerFacts,
    now: Timestamp,
) -> Result<bool, Error> {
    let old = Rule::from_columns(&before.columns).ok();
    let weakens = old.is_none_or(|old| weakens(&[old], new));
    let change = Change::Rule(RuleChange { weakens, least_role: Role::None });
    match judge(&change, &in_force(workflows, &before.scope), caller, now) {
        Verdict::Pass | Verdict::PassWithInitialPolicy => Ok(false),
        Verdict::Round(_) => Ok(true),
        Verdict::Refuse(refusal) => Err(refusal.into()),
    }
}

/// Returns the workflows whose scope contains a scope.
pub fn in_force(workflows: &[StoredWorkflow], scope: &RuleScope) -> InForce {
    let mut in_force = InForce::default();
    for stored in workflows.iter().filter(|stored| stored.scope.contains(scope)) {
        match Rule::from_columns(&stored.columns) {
            Ok(rule) => {
                let scope = stored.scope.clone();
                in_force.workflows.push(Workflow { id: stored.id, scope, rule });
            }
            Err(_) => in_force.doubt = Some(Doubt::UnreadableRule(stored.scope.clone())),
        }
    }
    in_force
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
    Err(Error::refused(Reason::QuorumUnreachable, why))
}

/// Returns what weakens a rule that can be met.
pub fn warnings(rule: &Rule, people: &People) -> Vec<Warning> {
    let by_role = rule.voter_sets().any(|(_, set)| !set.is_named());
    let found = [(is_fragile(rule, people), Warning::NoSpareVoter), (by_role, Warning::RolesAlone)];
    found.into_iter().filter(|(is_there, _)| *is_there).map(|(_, warning)| warning).collect()
}
