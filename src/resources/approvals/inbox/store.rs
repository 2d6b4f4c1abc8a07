//! Pages of rounds. The first page of the inbox is read from `approval_rounds_expires_at`, or from
//! `approval_rounds_gateway_id_expires_at` for one gateway; both contain only rounds that have not ended, in the order
//! of the list.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::snapshot::VisibleGateways;
use crate::clock::Timestamp;
use crate::db::schema::{approval_decisions as v, approval_rounds as t};
use crate::db::types::{ApprovalRoundId, GatewayId, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::Action;
use crate::resources::approvals::rounds::store::{Row, complete};
use crate::resources::approvals::rounds::{Round, RoundState};
use crate::resources::approvals::votes::store::StoredVote;

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
            query = query.filter(t::escalates_at.le(now));
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
