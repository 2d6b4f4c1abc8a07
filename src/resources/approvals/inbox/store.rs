//! Pages of rounds, and what is shown beside one round. The first page of the inbox is read from
//! `approval_rounds_expires_at`, or from `approval_rounds_gateway_id_expires_at` for one gateway; both contain only
//! rounds that have not ended, in the order of the list.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::snapshot::VisibleGateways;
use crate::clock::Timestamp;
use crate::db::schema::{
    approval_decisions as v, approval_rounds as t, follow_positions as p, followed_gateways as f,
    gateways as g, sandbox_meta as m,
};
use crate::db::types::{ApprovalRoundId, GatewayId, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::{Action, Decision};
use crate::openshell::sandbox::Phase;
use crate::resources::approvals::rounds::store::{Row, complete};
use crate::resources::approvals::rounds::{Round, RoundState};
use crate::resources::approvals::votes::store::StoredVote;
use crate::upstream::row::GatewayStatus;

/// Which rounds a list contains.
#[derive(Debug)]
pub struct InboxQuery<'a> {
    /// Gateways that the caller can see.
    pub visible: &'a VisibleGateways,
    /// Only those on this gateway.
    pub gateway: Option<GatewayId>,
    /// Only those in this workspace.
    pub workspace: Option<&'a str>,
    /// Only those of a sandbox of this name.
    pub sandbox: Option<&'a str>,
    /// Only those with this action.
    pub action: Option<Action>,
    /// Only those in this state.
    pub state: Option<RoundState>,
    /// Only those with this author.
    pub author: Option<&'a str>,
    /// Only those whose sandbox has this owner.
    pub owner: Option<&'a str>,
    /// Only those whose escalation time has passed.
    pub is_overdue: bool,
    /// Current time: rounds whose time is over have ended.
    pub now: Timestamp,
}

/// Position of a round in the inbox.
pub type InboxPosition = (Timestamp, ApprovalRoundId);

/// Returns the rounds that have not ended, nearest end of voting first, at most `limit`.
pub async fn page(
    conn: &mut Conn,
    wanted: &InboxQuery<'_>,
    after: Option<InboxPosition>,
    limit: i64,
) -> Result<Vec<Round>, Error> {
    let now = wanted.now;
    let rows: Vec<Row> = on_conn!(conn, |c| {
        let is_voting = t::state.ne(RoundState::Open).or(t::expires_at.gt(now));
        let is_in_time = t::state.ne(RoundState::Approved).or(t::due_at.gt(now));
        let mut query = t::table
            .filter(t::closed_at.is_null().and(is_voting).and(is_in_time))
            .select(Row::as_select())
            .order((t::expires_at.asc(), t::id.asc()))
            .limit(limit)
            .into_boxed();
        if let VisibleGateways::Only(ids) = wanted.visible {
            let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
            query = query.filter(t::gateway_id.eq_any(ids));
        }
        if let Some(gateway) = wanted.gateway {
            query = query.filter(t::gateway_id.eq(gateway.get()));
        }
        if let Some(workspace) = wanted.workspace {
            query = query.filter(t::workspace.eq(workspace));
        }
        if let Some(sandbox) = wanted.sandbox {
            query = query.filter(t::sandbox_name.eq(sandbox));
        }
        if let Some(action) = wanted.action {
            query = query.filter(t::action.eq(action));
        }
        if let Some(state) = wanted.state {
            query = query.filter(t::state.eq(state));
        }
        if let Some(author) = wanted.author {
            query = query.filter(t::authors_json.like(format!("%\"{author}\"%")));
        }
        if let Some(owner) = wanted.owner {
            query = query.filter(t::owner.eq(owner));
        }
        if wanted.is_overdue {
            // After an escalation, the time is that of the next one.
            query = query.filter(t::escalated_at.is_not_null().or(t::escalates_at.le(now)));
        }
        if let Some((at, id)) = after {
            let later = t::expires_at.gt(at).or(t::expires_at.eq(at).and(t::id.gt(id.get())));
            query = query.filter(later);
        }
        query.load(c).await
    })?;
    complete(conn, rows).await
}

/// Returns the rounds of a sandbox, newest first, at most `limit`.
pub async fn history(
    conn: &mut Conn,
    place: &SandboxRef,
    before: Option<InboxPosition>,
    limit: i64,
) -> Result<Vec<Round>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| {
        let mut query = t::table
            .filter(t::gateway_id.eq(place.gateway.id.get()))
            .filter(t::workspace.eq(place.workspace()))
            .filter(t::sandbox_name.eq(place.sandbox()))
            .select(Row::as_select())
            .order((t::opened_at.desc(), t::id.desc()))
            .limit(limit)
            .into_boxed();
        if let Some((at, id)) = before {
            let earlier = t::opened_at.lt(at).or(t::opened_at.eq(at).and(t::id.lt(id.get())));
            query = query.filter(earlier);
        }
        query.load(c).await
    })?;
    complete(conn, rows).await
}

/// Returns the votes of these rounds that were not cleared, each with its round, in the order in which they were cast.
pub async fn current_votes(
    conn: &mut Conn,
    rounds: &[i64],
) -> Result<Vec<(i64, StoredVote)>, Error> {
    Ok(on_conn!(conn, |c| v::table
        .filter(v::round_id.eq_any(rounds).and(v::cleared_at.is_null()))
        .select((v::round_id.assume_not_null(), StoredVote::as_select()))
        .order(v::id)
        .load(c)
        .await)?)
}

/// The rejection of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The round.
    pub round: ApprovalRoundId,
    /// Name of the voter when it voted.
    pub voter: String,
    /// Comment of the voter.
    pub comment: String,
    /// When it was rejected.
    pub at: Timestamp,
}

/// Returns the last rejection of an earlier round of the same content in the same place. It is read from
/// `approval_rounds_place_digest`, which has only rounds that have ended: a viewer of one sandbox with very many rounds
/// must not make the database read all of them.
pub async fn earlier_rejection(conn: &mut Conn, round: &Round) -> Result<Option<Rejection>, Error> {
    let found: Option<(i64, Timestamp)> = on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(round.place.gateway.id.get()))
        .filter(t::workspace.eq(round.place.workspace()))
        .filter(t::sandbox_name.eq(round.place.sandbox()))
        .filter(t::opened_at.le(round.opened_at).and(t::id.lt(round.id.get())))
        .filter(t::digest.eq(&round.digest).and(t::state.eq(RoundState::Rejected)))
        // Without this filter, the index is not used.
        .filter(t::closed_at.is_not_null())
        .select((t::id, t::closed_at.assume_not_null()))
        // The order of the index.
        .order((t::opened_at.desc(), t::id.desc()))
        .first(c)
        .await
        .optional())?;
    let Some((id, at)) = found else { return Ok(None) };
    let vote: Option<(String, Option<String>)> = on_conn!(conn, |c| v::table
        .filter(v::round_id.eq(id).and(v::decision.eq(Decision::Reject)))
        .select((v::actor, v::comment))
        .order(v::id.desc())
        .first(c)
        .await
        .optional())?;
    let rejection = |(voter, comment): (String, Option<String>)| Rejection {
        round: id.into(),
        voter,
        comment: comment.unwrap_or_default(),
        at,
    };
    Ok(vote.map(rejection))
}

/// Last state of a gateway that probes and the follower have seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenGateway {
    /// Result of the last probe.
    pub status: GatewayStatus,
    /// When it answered last.
    pub last_seen: Option<Timestamp>,
    /// Since when it does not accept the credential of this server.
    pub credential_unusable_since: Option<Timestamp>,
    /// Since when it has a policy for all sandboxes.
    pub global_policy_since: Option<Timestamp>,
}

/// Returns what was last seen of a gateway; `None` if it is not registered.
pub async fn seen_gateway(
    conn: &mut Conn,
    gateway: GatewayId,
) -> Result<Option<SeenGateway>, Error> {
    let row: Option<(GatewayStatus, Option<Timestamp>, Option<Timestamp>)> =
        on_conn!(conn, |c| g::table
            .find(gateway.get())
            .select((g::last_status, g::last_seen, g::credential_unusable_since))
            .first(c)
            .await
            .optional())?;
    let Some((status, last_seen, credential_unusable_since)) = row else { return Ok(None) };
    let row = f::table.find(gateway.get()).select(f::global_policy_since);
    let global: Option<Option<Timestamp>> = on_conn!(conn, |c| row.first(c).await.optional())?;
    let global_policy_since = global.flatten();
    Ok(Some(SeenGateway { status, last_seen, credential_unusable_since, global_policy_since }))
}

/// Returns when a gateway has last dropped marks of a policy that it has written; `None` if it was not seen to do so.
pub async fn marks_lost_at(
    conn: &mut Conn,
    gateway: GatewayId,
) -> Result<Option<Timestamp>, Error> {
    let row = g::table.find(gateway.get()).select(g::marks_lost_at);
    let found: Option<Option<Timestamp>> = on_conn!(conn, |c| row.first(c).await.optional())?;
    Ok(found.flatten())
}

/// Returns the gateway's id and the phase of the sandbox of a name, as they were last seen.
pub async fn seen_sandbox(
    conn: &mut Conn,
    place: &SandboxRef,
) -> Result<Option<(String, Phase)>, Error> {
    let key = (place.gateway.id.get(), place.workspace(), place.sandbox());
    Ok(on_conn!(conn, |c| p::table
        .find(key)
        .select((p::sandbox_uid, p::phase))
        .first(c)
        .await
        .optional())?)
}

/// Returns since when the gateway does not list a sandbox, by its id; `None` if it does, or if that is not known.
pub async fn missing_since(
    conn: &mut Conn,
    place: &SandboxRef,
    sandbox_id: &str,
) -> Result<Option<Timestamp>, Error> {
    let found: Option<Option<Timestamp>> = on_conn!(conn, |c| m::table
        .filter(m::gateway_name.eq(&*place.gateway.name))
        .filter(m::workspace.eq(place.workspace()))
        .filter(m::sandbox_name.eq(place.sandbox()))
        .filter(m::sandbox_id.eq(sandbox_id))
        .select(m::missing_since)
        .first(c)
        .await
        .optional())?;
    Ok(found.flatten())
}
