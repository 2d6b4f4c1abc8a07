//! Rounds that must be written, and gateways that have dropped marks of what was written.

use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{approval_rounds as t, gateways as g};
use crate::db::types::{ApprovalRoundId, GatewayId, GatewayRef, SandboxName, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::Action;
use crate::resources::approvals::rounds::RoundState;

/// SQL condition of the states between decision and end. Must equal the condition of the index, which bound values do
/// not match.
const IS_DECIDED: &str = "state IN ('approved', 'sending', 'written')";

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = t)]
struct Row {
    id: ApprovalRoundId,
    gateway_id: GatewayId,
    gateway_name: String,
    workspace: String,
    sandbox_name: String,
    state: RoundState,
}

/// A round between its decision and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedRound {
    /// Id.
    pub id: ApprovalRoundId,
    /// The sandbox. Its gateway may have been unregistered.
    pub place: SandboxRef,
    /// State.
    pub state: RoundState,
}

/// Returns the rounds that are written, between decision and end, with an id above `after`, oldest first, at most
/// `limit`.
pub async fn decided(
    conn: &mut Conn,
    after: ApprovalRoundId,
    limit: i64,
) -> Result<Vec<DecidedRound>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| {
        let query = t::table
            .filter(diesel::dsl::sql::<Bool>(IS_DECIDED))
            .filter(t::action.ne(Action::RuleChange).and(t::action.ne(Action::OverrideReview)))
            .filter(t::id.gt(after.get()))
            .select(Row::as_select())
            .order(t::id)
            .limit(limit);
        cached(query).load(c).await
    })?;
    let to_round = |row: Row| {
        let gateway = GatewayRef { id: row.gateway_id, name: row.gateway_name.into() };
        let name = SandboxName { workspace: row.workspace, name: row.sandbox_name };
        DecidedRound { id: row.id, place: SandboxRef { gateway, name }, state: row.state }
    };
    Ok(rows.into_iter().map(to_round).collect())
}

/// Stores when a gateway has last dropped marks of a policy that it has written.
pub async fn set_marks_lost(
    conn: &mut Conn,
    gateway: GatewayId,
    at: Timestamp,
) -> Result<(), Error> {
    let (row, set) = (g::table.find(gateway.get()), g::marks_lost_at.eq(at));
    on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sql_condition_names_the_states_between_decision_and_end() {
        let decided = RoundState::ALL
            .iter()
            .filter(|state| !state.is_closed() && **state != RoundState::Open);
        let words: Vec<&str> = decided.map(|state| state.as_str()).collect();
        assert_eq!(IS_DECIDED, format!("state IN ('{}')", words.join("', '")));
    }
}
