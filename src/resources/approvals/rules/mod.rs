//! The workflows and the pin that apply to a place, as rounds need them.

pub mod store;

use self::store::WorkflowRow;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::SandboxRef;
use crate::error::{Error, Reason};
use crate::governance::{Refusal, Rule, RuleScope, Workflow};
use crate::resources::approvals::proposals::change::PolicyChange;
use crate::resources::approvals::proposals::store as proposals;
use crate::resources::approvals::rounds::Round;

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
        let why = format!(
            "the approval workflow of {scope} cannot be read by this version: set it again"
        );
        Err(Error::refused(Reason::Governed, why))
    }
}

/// Returns those of these workflows that apply to a place.
#[must_use]
pub fn applying(rows: &[WorkflowRow], place: &SandboxRef) -> RulesInForce {
    let mut found = RulesInForce::default();
    for row in rows.iter().filter(|row| row.is_on(&place.gateway.name)) {
        let scope = row.scope();
        if !scope.applies_to(&place.name) {
            continue;
        }
        match row.rule() {
            Ok((id, rule)) => found.workflows.push(Workflow { id, scope, rule }),
            Err(_) => found.unreadable = Some(scope),
        }
    }
    found.workflows.sort_by(|one, other| one.scope.cmp(&other.scope));
    found
}

/// Returns the rules in force for a place. Its sandbox, or sandbox and workspace, can be empty: then only those of the
/// wider scopes apply.
///
/// # Errors
/// Those of the database.
pub async fn in_force(conn: &mut Conn, place: &SandboxRef) -> Result<RulesInForce, Error> {
    let rows = store::applying(conn, &place.gateway.name, &place.name).await?;
    Ok(applying(&rows, place))
}

/// Refuses an approval of a policy for a sandbox that is pinned now, unless it restores the pinned revision.
///
/// # Errors
/// `POLICY_PINNED`.
pub async fn require_unpinned(conn: &mut Conn, round: &Round, now: Timestamp) -> Result<(), Error> {
    let place = &round.place;
    let pin = store::pin(conn, &place.gateway.name, &place.name).await?;
    let Some(pin) = pin.filter(|pin| pin.is_in_force(now)) else { return Ok(()) };
    if restores_pinned(conn, round).await? {
        return Ok(());
    }
    Err(Refusal::Pinned(pin).into())
}

/// Returns whether a version of the policy of a sandbox is the one that its pin names, on the same sandbox.
///
/// # Errors
/// Those of the database.
pub async fn is_pinned_version(
    conn: &mut Conn,
    place: &SandboxRef,
    sandbox_id: &str,
    version: u32,
) -> Result<bool, Error> {
    let pinned = store::pinned_revision(conn, &place.gateway.name, &place.name).await?;
    Ok(pinned.is_some_and(|(pinned, of)| {
        pinned == i64::from(version) && of.as_deref() == Some(sandbox_id)
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
