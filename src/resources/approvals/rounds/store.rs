//! Rows of rounds. Rounds are found by the id of their gateway, never by its name (T01).

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Progress, Round, RoundState, Summary};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{
    approval_decisions as v, approval_round_outcomes as o, approval_rounds as t,
    policy_apply_proposals as p,
};
use crate::db::types::{ApprovalRoundId, GatewayId, GatewayRef, Json, SandboxName, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::Action;
use crate::resources::approvals::drafts::rejections::store as rejections;
use crate::upstream::generation::Generation;

/// The end of 9999: when voting ends in a round that does not expire. Stored, so that the inbox is in the order of its
/// index.
pub const NEVER: Timestamp = Timestamp::from_unix_micros(253_402_300_799_000_000);
/// Number of later rounds of a sandbox among which the successor of one is looked for.
const LATER_MAX: i64 = 1_000;

/// The columns of a round that its lists are ordered by, and those that do not change.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = t)]
pub(in crate::resources::approvals) struct Row {
    id: ApprovalRoundId,
    action: Action,
    gateway_id: GatewayId,
    gateway_name: String,
    workspace: String,
    sandbox_name: String,
    sandbox_id: Option<String>,
    chunk_id: String,
    state: RoundState,
    digest: String,
    generation: Option<String>,
    base_version: Option<i64>,
    base_digest: Option<String>,
    effective_hash: Option<String>,
    authors_json: Json<Vec<String>>,
    owner: Option<String>,
    summary_json: Json<Summary>,
    grant_minutes: Option<i32>,
    opened_at: Timestamp,
    escalates_at: Option<Timestamp>,
    escalated_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    due_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    version: i64,
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = o)]
struct OutcomeRow {
    id: ApprovalRoundId,
    decided_at: Option<Timestamp>,
    apply_by: Option<Timestamp>,
    close_reason: Option<String>,
    gateway_told: bool,
    operation_id: Option<String>,
    attempts: i32,
    written_version: Option<i64>,
    written_hash: Option<String>,
    previous_id: Option<ApprovalRoundId>,
    removed_version: Option<i64>,
}

/// A round to store.
#[derive(Debug)]
pub struct NewRow<'a> {
    /// The round; its id is not used.
    pub round: &'a Round,
    /// The encoded content.
    pub content: &'a [u8],
    /// Who has proposed it; `None` if an agent has.
    pub proposer: Option<PrincipalId>,
    /// When its voters are reminded first; `None` for never.
    pub remind_at: Option<Timestamp>,
}

fn parse_principal(text: &str) -> Result<PrincipalId, Error> {
    let bad = || Error::internal(format!("`{text}` is stored in place of a principal"));
    PrincipalId::parse(text).ok_or_else(bad)
}

fn to_round(row: Row, progress: Progress) -> Result<Round, Error> {
    let generation = row.generation.as_deref().map(|word| {
        let bad = || Error::internal(format!("`{word}` is stored in place of a generation"));
        Generation::from_word(word).ok_or_else(bad)
    });
    let gateway = GatewayRef { id: row.gateway_id, name: row.gateway_name.into() };
    let name = SandboxName { workspace: row.workspace, name: row.sandbox_name };
    let authors = row.authors_json.0.iter().map(|author| parse_principal(author));
    Ok(Round {
        id: row.id,
        action: row.action,
        place: SandboxRef { gateway, name },
        sandbox_id: row.sandbox_id,
        chunk_id: row.chunk_id,
        state: row.state,
        digest: row.digest,
        generation: generation.transpose()?,
        base_version: row.base_version,
        base_digest: row.base_digest,
        effective_hash: row.effective_hash,
        authors: authors.collect::<Result<_, _>>()?,
        owner: row.owner.as_deref().map(parse_principal).transpose()?,
        summary: row.summary_json.0,
        grant_minutes: row.grant_minutes,
        opened_at: row.opened_at,
        escalates_at: row.escalates_at,
        escalated_at: row.escalated_at,
        expires_at: row.expires_at.filter(|at| *at < NEVER),
        due_at: row.due_at,
        closed_at: row.closed_at,
        version: row.version,
        progress,
    })
}

impl From<OutcomeRow> for Progress {
    fn from(row: OutcomeRow) -> Self {
        Self {
            decided_at: row.decided_at,
            apply_by: row.apply_by,
            close_reason: row.close_reason,
            gateway_told: row.gateway_told,
            operation_id: row.operation_id,
            attempts: row.attempts,
            written_version: row.written_version,
            written_hash: row.written_hash,
            previous_id: row.previous_id,
            removed_version: row.removed_version,
        }
    }
}

/// Adds the other columns to rows, in their order. A row that was deleted in between is left out.
pub(in crate::resources::approvals) async fn complete(
    conn: &mut Conn,
    rows: Vec<Row>,
) -> Result<Vec<Round>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.id.get()).collect();
    let outcomes: Vec<OutcomeRow> = on_conn!(conn, |c| o::table
        .filter(o::id.eq_any(&ids))
        .select(OutcomeRow::as_select())
        .load(c)
        .await)?;
    let mut outcomes: HashMap<ApprovalRoundId, Progress> =
        outcomes.into_iter().map(|row| (row.id, row.into())).collect();
    let rounds = rows.into_iter().filter_map(|row| {
        let progress = outcomes.remove(&row.id)?;
        Some(to_round(row, progress))
    });
    rounds.collect()
}

async fn complete_one(conn: &mut Conn, row: Option<Row>) -> Result<Option<Round>, Error> {
    Ok(complete(conn, row.into_iter().collect()).await?.pop())
}

/// Stores a round and returns its id. Returns `Exists` if the same content is under review in the same place.
pub async fn insert(conn: &mut Conn, new: &NewRow<'_>) -> Result<ApprovalRoundId, Error> {
    let round = new.round;
    let authors = round.authors.iter().map(ToString::to_string).collect();
    let row = (
        t::action.eq(round.action),
        t::gateway_id.eq(round.place.gateway.id.get()),
        t::gateway_name.eq(&*round.place.gateway.name),
        t::workspace.eq(round.place.workspace()),
        t::sandbox_name.eq(round.place.sandbox()),
        t::sandbox_id.eq(&round.sandbox_id),
        t::chunk_id.eq(&round.chunk_id),
        t::state.eq(round.state),
        t::digest.eq(&round.digest),
        t::generation.eq(round.generation.map(Generation::as_str)),
        t::base_version.eq(round.base_version),
        t::base_digest.eq(&round.base_digest),
        t::effective_hash.eq(&round.effective_hash),
        t::content.eq(new.content),
        t::authors_json.eq(Json::<Vec<String>>(authors)),
        t::owner.eq(round.owner.map(|owner| owner.to_string())),
        t::summary_json.eq(Json(round.summary.clone())),
        t::grant_minutes.eq(round.grant_minutes),
        t::opened_at.eq(round.opened_at),
        t::escalates_at.eq(round.escalates_at),
        t::expires_at.eq(Some(round.expires_at.unwrap_or(NEVER))),
        t::due_at.eq(round.next_due()),
        t::remind_at.eq(new.remind_at),
        t::proposer.eq(new.proposer.map(|proposer| proposer.to_string())),
    );
    let id: i64 = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(t::id)
        .get_result(c)
        .await)?;
    if let Some(previous) = round.progress.previous_id {
        let (row, set) = (o::table.find(id), o::previous_id.eq(previous.get()));
        on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    }
    Ok(id.into())
}

/// Returns a round.
pub async fn by_id(conn: &mut Conn, id: ApprovalRoundId) -> Result<Option<Round>, Error> {
    let row: Option<Row> = on_conn!(conn, |c| t::table
        .find(id.get())
        .select(Row::as_select())
        .first(c)
        .await
        .optional())?;
    complete_one(conn, row).await
}

/// Returns the round of a place that has not ended, by action and content.
pub async fn find_open(
    conn: &mut Conn,
    place: &SandboxRef,
    action: Action,
    chunk_id: &str,
) -> Result<Option<Round>, Error> {
    let row: Option<Row> = on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(place.gateway.id.get()))
        .filter(t::workspace.eq(place.workspace()))
        .filter(t::sandbox_name.eq(place.sandbox()))
        .filter(t::action.eq(action).and(t::chunk_id.eq(chunk_id)))
        .filter(t::closed_at.is_null())
        .select(Row::as_select())
        .first(c)
        .await
        .optional())?;
    complete_one(conn, row).await
}

/// Returns the rounds of a gateway whose votes can change, oldest first, at most `limit`; with a sandbox, only those of
/// that sandbox.
pub async fn voting_on(
    conn: &mut Conn,
    gateway: GatewayId,
    sandbox: Option<&SandboxName>,
    limit: i64,
) -> Result<Vec<Round>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| {
        let mut query = t::table
            .filter(t::gateway_id.eq(gateway.get()).and(t::closed_at.is_null()))
            .filter(t::state.eq(RoundState::Open).or(t::state.eq(RoundState::Approved)))
            .select(Row::as_select())
            .order(t::id)
            .limit(limit)
            .into_boxed();
        if let Some(sandbox) = sandbox {
            query = query
                .filter(t::workspace.eq(&sandbox.workspace))
                .filter(t::sandbox_name.eq(&sandbox.name));
        }
        query.load(c).await
    })?;
    complete(conn, rows).await
}

/// Returns the encoded content of a round.
pub async fn content(conn: &mut Conn, id: ApprovalRoundId) -> Result<Vec<u8>, Error> {
    let found: Option<Vec<u8>> =
        on_conn!(conn, |c| t::table.find(id.get()).select(t::content).first(c).await.optional())?;
    found.ok_or_else(|| Error::internal("a round was deleted while it was read"))
}

/// Returns the round that replaces another one.
pub async fn successor(conn: &mut Conn, round: &Round) -> Result<Option<ApprovalRoundId>, Error> {
    let ids: Vec<i64> = on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(round.place.gateway.id.get()))
        .filter(t::workspace.eq(round.place.workspace()))
        .filter(t::sandbox_name.eq(round.place.sandbox()))
        .filter(t::opened_at.ge(round.opened_at).and(t::id.gt(round.id.get())))
        .select(t::id)
        .order(t::opened_at)
        .limit(LATER_MAX)
        .load(c)
        .await)?;
    let found: Option<i64> = on_conn!(conn, |c| o::table
        .filter(o::id.eq_any(&ids).and(o::previous_id.eq(round.id.get())))
        .select(o::id)
        .first(c)
        .await
        .optional())?;
    Ok(found.map(Into::into))
}

/// Returns the number of rounds on a gateway that a principal has proposed and that have not ended.
pub async fn count_open_by(
    conn: &mut Conn,
    gateway: GatewayId,
    proposer: PrincipalId,
) -> Result<i64, Error> {
    let query = t::table
        .filter(t::gateway_id.eq(gateway.get()).and(t::proposer.eq(proposer.to_string())))
        .filter(t::closed_at.is_null())
        .count();
    Ok(on_conn!(conn, |c| query.get_result(c).await)?)
}

/// Stores the state of a round if its stored version is `round.version - 1`. Returns whether it was stored.
pub async fn save(conn: &mut Conn, round: &Round) -> Result<bool, Error> {
    let before = t::version.eq(round.version - 1);
    let row = t::table.filter(t::id.eq(round.id.get()).and(before));
    let set = (
        t::state.eq(round.state),
        t::escalates_at.eq(round.escalates_at),
        t::escalated_at.eq(round.escalated_at),
        t::due_at.eq(round.next_due()),
        t::closed_at.eq(round.closed_at),
        t::version.eq(round.version),
    );
    let stored = on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    if stored == 0 {
        return Ok(false);
    }
    let progress = &round.progress;
    let row = o::table.filter(o::id.eq(round.id.get()));
    let set = (
        o::decided_at.eq(progress.decided_at),
        o::apply_by.eq(progress.apply_by),
        o::close_reason.eq(progress.close_reason.as_deref()),
        o::gateway_told.eq(progress.gateway_told),
        o::operation_id.eq(progress.operation_id.as_deref()),
        o::attempts.eq(progress.attempts),
        o::written_version.eq(progress.written_version),
        o::written_hash.eq(progress.written_hash.as_deref()),
    );
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(true)
}

/// Stores the rules by which a round was decided, as JSON.
pub async fn set_rules(
    conn: &mut Conn,
    id: ApprovalRoundId,
    rules_json: &str,
) -> Result<(), Error> {
    let (row, set) = (t::table.find(id.get()), t::rules_json.eq(rules_json));
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Returns the rules by which a round was decided, as JSON; `None` before its decision.
pub async fn rules(conn: &mut Conn, id: ApprovalRoundId) -> Result<Option<String>, Error> {
    let row = t::table.find(id.get()).select(t::rules_json);
    Ok(on_conn!(conn, |c| row.first(c).await)?)
}

/// Returns the rounds with a clock that is due, then the open ones with a reminder that is due, each with its gateway.
/// Of either, the longest due come first, at most `limit`.
pub async fn due(
    conn: &mut Conn,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<(ApprovalRoundId, GatewayId)>, Error> {
    let all = || t::table.filter(t::closed_at.is_null()).select((t::id, t::gateway_id));
    let clocks = all().filter(t::due_at.le(now)).order(t::due_at).limit(limit);
    let reminded = t::remind_at.le(now).and(t::state.eq(RoundState::Open));
    let reminders = all().filter(reminded).order(t::remind_at).limit(limit);
    let mut due: Vec<(ApprovalRoundId, GatewayId)> = on_conn!(conn, |c| clocks.load(c).await)?;
    let more: Vec<(ApprovalRoundId, GatewayId)> = on_conn!(conn, |c| reminders.load(c).await)?;
    let known: HashSet<ApprovalRoundId> = due.iter().map(|(id, _)| *id).collect();
    due.extend(more.into_iter().filter(|(id, _)| !known.contains(id)));
    Ok(due)
}

/// Returns the rounds that ended before a time, the longest ended first, at most `limit`.
pub async fn ended(conn: &mut Conn, before: Timestamp, limit: i64) -> Result<Vec<i64>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::closed_at.lt(before))
        .select(t::id)
        .order(t::closed_at)
        .limit(limit)
        .load(c)
        .await)?)
}

/// Deletes these rounds with their votes and proposals. Returns their number.
pub async fn delete(conn: &mut Conn, ids: &[i64]) -> Result<usize, Error> {
    let votes = v::table.filter(v::round_id.eq_any(ids));
    on_conn!(conn, |c| diesel::delete(votes).execute(c).await)?;
    let proposals = p::table.filter(p::round_id.eq_any(ids));
    on_conn!(conn, |c| diesel::delete(proposals).execute(c).await)?;
    rejections::delete(conn, ids).await?;
    let rounds = t::table.filter(t::id.eq_any(ids));
    Ok(on_conn!(conn, |c| diesel::delete(rounds).execute(c).await)?)
}
