//! The workflows and the pin that apply to a place, as rounds need them.

pub mod store;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::governance::{Doubt, InForce, Lock, Refusal, Rule, RuleScope, Workflow};
use crate::resources::approvals::proposals::change::PolicyChange;
use crate::resources::approvals::proposals::store as proposals;
use crate::resources::approvals::rounds::Round;
use crate::resources::stored_rules::domain::{self as stored_rules, StoredWorkflow};

/// The rules in force for a place.
#[derive(Debug, Clone, Default)]
pub struct RulesInForce {
    /// The workflows, from the widest to the narrowest scope.
    pub workflows: Vec<Workflow>,
    /// The scope of a rule that this version cannot read.
    pub unreadable: Option<RuleScope>,
}

impl RulesInForce {
    /// Returns the rules.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.workflows.iter().map(|workflow| workflow.rule.clone()).collect()
    }

    /// Returns the id of the narrowest workflow.
    #[must_use]
    pub fn narrowest(&self) -> Option<i64> {
        self.workflows.last().map(|workflow| workflow.id.get())
    }

    /// Refuses to decide by rules of which one cannot be read.
    ///
    /// # Errors
    /// `GOVERNED` with its scope.
    pub fn require_readable(self) -> Result<Self, Error> {
        let Some(scope) = &self.unreadable else { return Ok(self) };
        Err(Refusal::Doubt(Doubt::UnreadableRule(scope.clone())).into())
    }
}

impl From<InForce> for RulesInForce {
    fn from(in_force: InForce) -> Self {
        let unreadable = in_force.doubt.map(|Doubt::UnreadableRule(scope)| scope);
        Self { workflows: in_force.workflows, unreadable }
    }
}

/// Returns those of these workflows that apply to a place. A workflow of a selector may apply to any
/// gateway.
#[must_use]
pub fn applying(workflows: &[StoredWorkflow], place: &SandboxRef) -> RulesInForce {
    let applies = |stored: &&StoredWorkflow| {
        let is_on = stored.gateway.is_empty() || *stored.gateway == *place.gateway.name;
        is_on && stored.scope.applies_to(&place.name)
    };
    stored_rules::in_force(workflows.iter().filter(applies)).into()
}

/// Returns the rules in force for a place. Its sandbox, or sandbox and workspace, can be empty: then only those of the
/// wider scopes apply.
///
/// # Errors
/// Those of the database.
pub async fn in_force(conn: &mut Conn, place: &SandboxRef) -> Result<RulesInForce, Error> {
    let (workspace, name) = (Some(place.workspace()), Some(place.sandbox()));
    Ok(stored_rules::applying(conn, &place.gateway.name, workspace, name).await?.into())
}

/// Returns the pin of a place as it is judged, which may have ended.
///
/// # Errors
/// Those of the database.
pub async fn pin(conn: &mut Conn, place: &SandboxRef) -> Result<Option<Lock>, Error> {
    let pin = stored_rules::pin_of(conn, &place.gateway.name, &place.name).await?;
    Ok(pin.map(|pin| pin.lock()))
}

/// Refuses an approval of a policy for a sandbox that is pinned now, unless it restores the pinned revision.
///
/// # Errors
/// `POLICY_PINNED`.
pub async fn require_unpinned(conn: &mut Conn, round: &Round, now: Timestamp) -> Result<(), Error> {
    let pin = pin(conn, &round.place).await?;
    let Some(pin) = pin.filter(|pin| pin.is_in_force(now)) else { return Ok(()) };
    if restores_pinned(conn, round).await? {
        return Ok(());
    }
    Err(Refusal::Pinned(pin).into())
}

/// Returns whether a version of the policy of a sandbox is the version that its pin names, on the same sandbox.
///
/// # Errors
/// Those of the database.
pub async fn is_pinned_version(
    conn: &mut Conn,
    place: &SandboxRef,
    sandbox_id: &str,
    version: u32,
) -> Result<bool, Error> {
    let pin = stored_rules::pin_of(conn, &place.gateway.name, &place.name).await?;
    Ok(pin.is_some_and(|pin| {
        pin.pinned_version == i64::from(version) && pin.sandbox_id.as_deref() == Some(sandbox_id)
    }))
}

/// Returns whether a round restores the revision that the pin of its sandbox names: the pin allows that.
///
/// # Errors
/// Those of the database.
pub async fn restores_pinned(conn: &mut Conn, round: &Round) -> Result<bool, Error> {
    let Some(sandbox_id) = &round.sandbox_id else { return Ok(false) };
    let stored = proposals::of_round(conn, round).await?.and_then(|proposal| proposal.change_json);
    let Some(stored) = stored else { return Ok(false) };
    match PolicyChange::from_stored(&stored)?.restored_version() {
        Some(version) => is_pinned_version(conn, &round.place, sandbox_id, version).await,
        None => Ok(false),
    }
}
