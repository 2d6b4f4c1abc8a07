//! Rounds that a rule applies to.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::schema::approval_rounds as t;
use crate::db::types::{ApprovalRoundId, GatewayId};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::RuleScope;
use crate::resources::approvals::rounds::RoundState;

/// Returns the rounds in a scope whose votes can change, oldest first. One whose time is over has expired, also if no
/// worker ran. Their number is limited by the drafts of a gateway and the proposals of its principals.
pub async fn voting_in(
    conn: &mut Conn,
    gateway: GatewayId,
    scope: &RuleScope,
    now: Timestamp,
) -> Result<Vec<ApprovalRoundId>, Error> {
    let ids: Vec<i64> = on_conn!(conn, |c| {
        let is_voting = t::state.ne(RoundState::Open).or(t::expires_at.gt(now));
        let is_in_time = t::state.ne(RoundState::Approved).or(t::due_at.gt(now));
        let mut query = t::table
            .filter(t::gateway_id.eq(gateway.get()))
            .filter(t::state.eq(RoundState::Open).or(t::state.eq(RoundState::Approved)))
            .filter(t::closed_at.is_null().and(is_voting).and(is_in_time))
            .select(t::id)
            .order(t::id)
            .into_boxed();
        if let Some(workspace) = scope.workspace() {
            query = query.filter(t::workspace.eq(workspace));
        }
        if let Some(sandbox) = scope.sandbox() {
            query = query.filter(t::sandbox_name.eq(sandbox));
        }
        query.load(c).await
    })?;
    Ok(ids.into_iter().map(Into::into).collect())
}
