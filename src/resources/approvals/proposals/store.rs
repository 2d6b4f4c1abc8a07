//! Rows of proposals, and contents and owners by sandbox. A proposal whose round has ended has `cleared_at`.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::ProposalMode;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{approval_rounds as r, policy_apply_proposals as t, sandbox_meta as m};
use crate::db::types::{ApprovalRoundId, GatewayId, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::Action;
use crate::resources::approvals::rounds::Round;

/// A proposal to store.
#[derive(Debug, Clone, Copy)]
pub struct NewProposal<'a> {
    /// The document.
    pub yaml: &'a str,
    /// How it becomes a policy.
    pub mode: ProposalMode,
    /// The gateway's hash of the policy that the proposer has seen.
    pub expected_hash: Option<&'a str>,
    /// Name of the proposer, at most 254 characters.
    pub actor: &'a str,
    /// The proposer.
    pub principal: Option<PrincipalId>,
}

/// Returns the number of rounds on a gateway that a principal has proposed since a time, also of those that have ended.
pub async fn count_since(
    conn: &mut Conn,
    gateway: GatewayId,
    proposer: PrincipalId,
    since: Timestamp,
) -> Result<i64, Error> {
    let query = r::table
        .filter(r::gateway_id.eq(gateway.get()).and(r::proposer.eq(proposer.to_string())))
        .filter(r::opened_at.gt(since))
        .count();
    Ok(on_conn!(conn, |c| query.get_result(c).await)?)
}

/// Stores the proposal of a round.
pub async fn insert(conn: &mut Conn, round: &Round, new: &NewProposal<'_>) -> Result<(), Error> {
    let row = (
        t::gateway_name.eq(&*round.place.gateway.name),
        t::workspace.eq(round.place.workspace()),
        t::sandbox_name.eq(round.place.sandbox()),
        t::chunk_id.eq(&round.chunk_id),
        t::yaml_text.eq(new.yaml),
        t::expected_hash.eq(new.expected_hash),
        t::proposed_by.eq(new.actor),
        t::proposed_at.eq(round.opened_at),
        t::round_id.eq(round.id.get()),
        t::mode.eq(new.mode),
        t::principal.eq(new.principal.map(|principal| principal.to_string())),
    );
    on_conn!(conn, |c| diesel::insert_into(t::table).values(row).execute(c).await)?;
    Ok(())
}

/// A stored proposal.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct StoredProposal {
    /// The gateway's hash of the policy that the proposer has seen.
    pub expected_hash: Option<String>,
    /// Name of the proposer.
    pub proposed_by: String,
    /// The change as JSON; `None` for a complete policy.
    pub change_json: Option<String>,
}

/// Selects the proposal of a round that has not ended, by the columns of the unique index.
macro_rules! open_of {
    ($round:expr) => {
        t::table.filter(
            t::gateway_name
                .eq(&*$round.place.gateway.name)
                .and(t::workspace.eq($round.place.workspace()))
                .and(t::sandbox_name.eq($round.place.sandbox()))
                .and(t::chunk_id.eq(&$round.chunk_id))
                .and(t::cleared_at.is_null().and(t::round_id.eq($round.id.get()))),
        )
    };
}

/// Stores the change that led to the policy of a round.
pub async fn set_change(conn: &mut Conn, round: &Round, change_json: &str) -> Result<(), Error> {
    let row = open_of!(round);
    let set = t::change_json.eq(change_json);
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Returns the proposal of a round that has not ended and was not written; `None` without one.
pub async fn of_round(conn: &mut Conn, round: &Round) -> Result<Option<StoredProposal>, Error> {
    let row = open_of!(round);
    Ok(on_conn!(conn, |c| row.select(StoredProposal::as_select()).first(c).await.optional())?)
}

/// The content of a round as it is stored: its action, its wire generation, and the bytes.
pub type StoredContent = (Action, Option<String>, Vec<u8>);

/// Returns the content of a round of a sandbox, even after its end. A round of another gateway or sandbox is not found
/// (T08).
pub async fn content_of(
    conn: &mut Conn,
    place: &SandboxRef,
    id: ApprovalRoundId,
) -> Result<Option<StoredContent>, Error> {
    let found: Option<StoredContent> = on_conn!(conn, |c| r::table
        .filter(r::id.eq(id.get()).and(r::gateway_id.eq(place.gateway.id.get())))
        .filter(r::workspace.eq(place.workspace()))
        .filter(r::sandbox_name.eq(place.sandbox()))
        .select((r::action, r::generation, r::content))
        .first(c)
        .await
        .optional())?;
    Ok(found)
}

/// Returns the owner of a sandbox; `None` if it is not known, even if another sandbox had the name.
pub async fn owner(
    conn: &mut Conn,
    place: &SandboxRef,
    sandbox_id: &str,
) -> Result<Option<PrincipalId>, Error> {
    let found: Option<Option<String>> = on_conn!(conn, |c| m::table
        .filter(m::gateway_name.eq(&*place.gateway.name))
        .filter(m::workspace.eq(place.workspace()))
        .filter(m::sandbox_name.eq(place.sandbox()))
        .filter(m::sandbox_id.eq(sandbox_id))
        .select(m::owner)
        .first(c)
        .await
        .optional())?;
    Ok(found.flatten().as_deref().and_then(PrincipalId::parse))
}

/// Returns the owner of the sandbox that last had this name, as far as it was seen; `None` if it is not known.
pub async fn owner_by_name(
    conn: &mut Conn,
    place: &SandboxRef,
) -> Result<Option<PrincipalId>, Error> {
    let found: Option<Option<String>> = on_conn!(conn, |c| m::table
        .filter(m::gateway_name.eq(&*place.gateway.name))
        .filter(m::workspace.eq(place.workspace()))
        .filter(m::sandbox_name.eq(place.sandbox()))
        .select(m::owner)
        .first(c)
        .await
        .optional())?;
    Ok(found.flatten().as_deref().and_then(PrincipalId::parse))
}

/// Clears the proposal of a round, if it has one.
pub async fn clear(conn: &mut Conn, round: &Round, at: Timestamp) -> Result<(), Error> {
    let row = open_of!(round);
    let set = t::cleared_at.eq(at);
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}
