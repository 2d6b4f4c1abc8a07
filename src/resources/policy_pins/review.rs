//! Changes that weaken a pin: its setter and the role of the pin can make them, and under an approval workflow a review
//! decides.

use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::governance::RuleChange;
use crate::resources::approvals::rule_changes::propose::propose;
use crate::resources::approvals::{Round, RuleContent};
use crate::resources::stored_rules::domain::{Pin, applying, caller_facts, needs_review};
use crate::role::Role;

/// Checks that the caller may shorten or remove a pin (T01). Returns the review that decides, if a workflow applies.
///
/// # Errors
/// `ROLE_TOO_LOW` below the role of the pin, `GOVERNED` if a rule cannot be read, or it is not known who holds the key
/// of the caller.
pub(super) async fn review(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    pin: &Pin,
    until: Option<Timestamp>,
) -> Result<Option<Box<Round>>, Error> {
    // The setter may have a lower role by now.
    let caller = ctx.principal().map(|principal| principal.to_string());
    let is_setter = caller.is_some() && pin.principal == caller;
    let least_role = if is_setter { Role::None } else { pin.setter_role };
    let change = RuleChange { weakens: true, least_role };
    let (workspace, name) = (Some(place.workspace()), Some(place.sandbox()));
    let in_force = applying(tx, &place.gateway.name, workspace, name).await?;
    let caller = caller_facts(ctx, place.gateway.id, &in_force.workflows)?;
    let now = ctx.db().now(tx).await?;
    if !needs_review(change, &in_force, &caller, now)? {
        return Ok(None);
    }
    let content = RuleContent::Pin {
        id: pin.id.get(),
        version: pin.version,
        before: pin.expires_at.map(Timestamp::unix_micros),
        after: until.map(Timestamp::unix_micros),
    };
    Ok(Some(Box::new(propose(ctx, tx, place, content).await?)))
}
