//! Rounds that a rule applies to.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::schema::approval_rounds as t;
use crate::db::types::{ApprovalRoundId, GatewayId, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::{Action, RuleScope};
use crate::resources::approvals::rounds::store::{Row, complete};
use crate::resources::approvals::rounds::{Round, RoundState};

/// Limits a query to the rounds in a scope whose votes can change. A round whose time is over has expired, even if no
/// worker has stored that yet. A macro, since the type of a query depends on the engine and on what is selected.
macro_rules! voting {
    ($query:expr, $gateway:expr, $scope:expr, $now:expr) => {{
        let is_voting = t::state.ne(RoundState::Open).or(t::expires_at.gt($now));
        let is_in_time = t::state.ne(RoundState::Approved).or(t::due_at.gt($now));
        let mut query = $query
            .filter(t::gateway_id.eq($gateway.get()))
            .filter(t::state.eq(RoundState::Open).or(t::state.eq(RoundState::Approved)))
            .filter(t::closed_at.is_null().and(is_voting).and(is_in_time))
            .into_boxed();
        if let Some(workspace) = $scope.workspace() {
            query = query.filter(t::workspace.eq(workspace));
        }
        if let Some(sandbox) = $scope.sandbox() {
            query = query.filter(t::sandbox_name.eq(sandbox));
        }
        query
    }};
}

/// Rounds in a scope whose votes can change.
#[derive(Debug)]
pub struct VotingRounds {
    /// The oldest ones.
    pub first: Vec<ApprovalRoundId>,
    /// Number of all of them.
    pub count: i64,
}

/// Returns the rounds in a scope whose votes can change: the first `limit`, and their number. The drafts of a gateway
/// and the proposals of its principals limit it to tens of thousands, so they are not all loaded: the caller may hold
/// the lock of the gateway.
pub async fn voting_in(
    conn: &mut Conn,
    gateway: GatewayId,
    scope: &RuleScope,
    now: Timestamp,
    limit: i64,
) -> Result<VotingRounds, Error> {
    let first: Vec<i64> = on_conn!(conn, |c| {
        let oldest = t::table.select(t::id).order(t::id).limit(limit);
        voting!(oldest, gateway, scope, now).load(c).await
    })?;
    let count: i64 =
        on_conn!(conn, |c| voting!(t::table, gateway, scope, now).count().get_result(c).await)?;
    Ok(VotingRounds { first: first.into_iter().map(Into::into).collect(), count })
}

/// Returns the rounds about changes of the rules of exactly a place that have not ended, oldest first.
pub async fn rule_changes_of(conn: &mut Conn, place: &SandboxRef) -> Result<Vec<Round>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(place.gateway.id.get()))
        .filter(t::workspace.eq(place.workspace()))
        .filter(t::sandbox_name.eq(place.sandbox()))
        .filter(t::action.eq(Action::RuleChange).and(t::closed_at.is_null()))
        .select(Row::as_select())
        .order(t::id)
        .load(c)
        .await)?;
    complete(conn, rows).await
}
