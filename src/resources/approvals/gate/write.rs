//! The gate for a policy that a caller proposes, in the transaction that opens its round.

use futures_util::future::BoxFuture;

use super::{Place, store};
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::governance::{Action, Change, Origin, Verdict, judge};
use crate::resources::approvals::rules;
use crate::resources::stored_rules::domain::caller_facts;

/// Facts about a proposed policy.
#[derive(Debug, Clone, Copy)]
pub struct WriteFacts<'a> {
    /// The API.
    pub origin: Origin,
    /// The gateway's id of the sandbox.
    pub sandbox_id: &'a str,
    /// Version of the revision that it restores.
    pub restores: Option<u32>,
    /// Whether the gateway has a policy for all sandboxes.
    pub is_global: bool,
}

/// Judges a policy that the caller proposes for a sandbox.
///
/// # Errors
/// Those of the database. A refusal is a verdict.
pub fn judge_write<'a>(
    ctx: &'a Ctx,
    conn: &'a mut Conn,
    place: &'a SandboxRef,
    facts: WriteFacts<'a>,
) -> BoxFuture<'a, Result<Verdict, Error>> {
    Box::pin(async move {
        let now = ctx.db().now(conn).await?;
        let part = Place::Sandbox(place.name.clone());
        let stored = store::rules_of(conn, &place.gateway.name, &part).await?;
        let in_force = stored.in_force(facts.is_global);
        let to_pinned = match facts.restores {
            Some(version) => {
                rules::is_pinned_version(conn, place, facts.sandbox_id, version).await?
            }
            None => false,
        };
        let change = Change::Write { action: Action::PolicyApply, origin: facts.origin, to_pinned };
        let caller = caller_facts(ctx, place.gateway.id, &in_force.workflows)?;
        Ok(judge(&change, &in_force, &caller, now))
    })
}
