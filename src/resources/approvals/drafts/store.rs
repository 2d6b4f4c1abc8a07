//! Rounds of drafts by chunk and by content, editors of chunks without a round, and what was last seen of the drafts of a
//! sandbox.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{
    approval_decisions as v, approval_rounds as t, draft_editors as e, draft_states as s,
};
use crate::db::types::{ApprovalRoundId, GatewayId, Json, SandboxName, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::Action;
use crate::resources::approvals::rounds::store::{Row, complete};
use crate::resources::approvals::rounds::{Round, Summary};

/// Authors of a round without an edit, as they are stored.
const NO_AUTHORS: &str = "[]";
/// SQL condition of a round without a vote.
const HAS_NO_VOTE: &str = "NOT EXISTS (SELECT 1 FROM approval_decisions \
                           WHERE approval_decisions.round_id = approval_rounds.id)";

/// Selects the rounds of drafts of a sandbox. A macro, since the type of a query depends on what is selected.
macro_rules! of_sandbox {
    ($place:expr) => {
        t::table
            .filter(t::gateway_id.eq($place.gateway.id.get()))
            .filter(t::workspace.eq($place.workspace()).and(t::sandbox_name.eq($place.sandbox())))
            .filter(t::action.eq(Action::DraftApprove))
    };
}

/// Returns the rounds of drafts of a sandbox that have not ended, oldest first, at most `limit`.
pub async fn open_of(conn: &mut Conn, place: &SandboxRef, limit: i64) -> Result<Vec<Round>, Error> {
    open_after(conn, place, 0, limit).await
}

/// Does the same as [`open_of`] for those whose id is greater than `after`.
pub async fn open_after(
    conn: &mut Conn,
    place: &SandboxRef,
    after: i64,
    limit: i64,
) -> Result<Vec<Round>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| of_sandbox!(place)
        .filter(t::closed_at.is_null().and(t::id.gt(after)))
        .select(Row::as_select())
        .order(t::id)
        .limit(limit)
        .load(c)
        .await)?;
    complete(conn, rows).await
}

/// Returns those of them that have this digest, oldest first.
pub async fn open_with(
    conn: &mut Conn,
    place: &SandboxRef,
    digest: &str,
) -> Result<Vec<Round>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| of_sandbox!(place)
        .filter(t::closed_at.is_null().and(t::digest.eq(digest)))
        .select(Row::as_select())
        .order(t::id)
        .load(c)
        .await)?;
    complete(conn, rows).await
}

/// A chunk and a digest.
pub type ChunkDigest = (String, String);

/// Returns those of each round of a draft of a sandbox that has not ended.
pub async fn open_digests(conn: &mut Conn, place: &SandboxRef) -> Result<Vec<ChunkDigest>, Error> {
    Ok(on_conn!(conn, |c| of_sandbox!(place)
        .filter(t::closed_at.is_null())
        .select((t::chunk_id, t::digest))
        .load(c)
        .await)?)
}

/// Returns those of these rounds that exist, in no particular order.
pub async fn by_ids(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Round>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| t::table
        .filter(t::id.eq_any(ids))
        .select(Row::as_select())
        .load(c)
        .await)?;
    complete(conn, rows).await
}

/// Returns the number of rounds of drafts that have not ended, on a gateway, or only those of one of its sandboxes.
pub async fn count_open(
    conn: &mut Conn,
    gateway: GatewayId,
    sandbox: Option<&SandboxName>,
) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = t::table
            .filter(t::gateway_id.eq(gateway.get()))
            .filter(t::action.eq(Action::DraftApprove).and(t::closed_at.is_null()))
            .into_boxed();
        if let Some(sandbox) = sandbox {
            query = query
                .filter(t::workspace.eq(&sandbox.workspace))
                .filter(t::sandbox_name.eq(&sandbox.name));
        }
        query.count().get_result(c).await
    })?)
}

/// Returns the number of rounds of drafts of a sandbox that were opened since a time.
pub async fn count_opened(
    conn: &mut Conn,
    place: &SandboxRef,
    since: Timestamp,
) -> Result<i64, Error> {
    let query = of_sandbox!(place).filter(t::opened_at.gt(since)).count();
    Ok(on_conn!(conn, |c| query.get_result(c).await)?)
}

/// Returns the number of rounds of drafts of each sandbox of a gateway that have not ended.
pub async fn open_by_sandbox(
    conn: &mut Conn,
    gateway: GatewayId,
) -> Result<Vec<(SandboxName, i64)>, Error> {
    let rows: Vec<(String, String, i64)> = on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway.get()))
        .filter(t::action.eq(Action::DraftApprove).and(t::closed_at.is_null()))
        .group_by((t::workspace, t::sandbox_name))
        .select((t::workspace, t::sandbox_name, diesel::dsl::count_star()))
        .load(c)
        .await)?;
    let to_name = |(workspace, name, count)| (SandboxName { workspace, name }, count);
    Ok(rows.into_iter().map(to_name).collect())
}

/// Returns the newest round of a chunk that has an editor. It may have ended.
pub async fn last_edited(
    conn: &mut Conn,
    place: &SandboxRef,
    (sandbox_id, chunk_id): (&str, &str),
) -> Result<Option<Round>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| of_sandbox!(place)
        .filter(t::chunk_id.eq(chunk_id))
        .filter(t::sandbox_id.eq(sandbox_id).and(t::authors_json.ne(NO_AUTHORS)))
        .select(Row::as_select())
        // The order of the index.
        .order((t::opened_at.desc(), t::id.desc()))
        .limit(1)
        .load(c)
        .await)?;
    Ok(complete(conn, rows).await?.pop())
}

/// Returns the rounds of drafts without a vote and without an edit that ended before a time, the longest ended first,
/// at most `limit`.
pub async fn ended_without_vote(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
) -> Result<Vec<i64>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::closed_at.lt(before).and(t::action.eq(Action::DraftApprove)))
        .filter(t::authors_json.eq(NO_AUTHORS))
        .filter(diesel::dsl::sql::<Bool>(HAS_NO_VOTE))
        .select(t::id)
        .order(t::closed_at)
        .limit(limit)
        .load(c)
        .await)?)
}

/// Stores the summary of a round. Its version does not change: nothing that is decided has changed.
pub async fn set_summary(
    conn: &mut Conn,
    id: ApprovalRoundId,
    summary: &Summary,
) -> Result<(), Error> {
    let (row, set) = (t::table.find(id.get()), t::summary_json.eq(Json(summary.clone())));
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Stores the chunk of a round with its votes, and what lists show of it.
pub async fn set_chunk(conn: &mut Conn, round: &Round) -> Result<(), Error> {
    let row = t::table.find(round.id.get());
    let set = (t::chunk_id.eq(&round.chunk_id), t::summary_json.eq(Json(round.summary.clone())));
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    let votes = v::table.filter(v::round_id.eq(round.id.get()));
    let set = v::chunk_id.eq(&round.chunk_id);
    on_conn!(conn, |c| cached(diesel::update(votes).set(set)).execute(c).await)?;
    Ok(())
}

/// Stores the authors of a round, and the users behind them.
pub async fn set_authors(
    conn: &mut Conn,
    id: ApprovalRoundId,
    authors: &[PrincipalId],
    summary: &Summary,
) -> Result<(), Error> {
    let authors = authors.iter().map(ToString::to_string).collect();
    let row = t::table.find(id.get());
    let set = (
        t::authors_json.eq(Json::<Vec<String>>(authors)),
        t::summary_json.eq(Json(summary.clone())),
    );
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Stores that a principal edits a chunk that has no round.
pub async fn insert_editor(
    conn: &mut Conn,
    place: &SandboxRef,
    chunk_id: &str,
    editor: PrincipalId,
    now: Timestamp,
) -> Result<(), Error> {
    let editor = editor.to_string();
    let key = (
        e::gateway_id.eq(place.gateway.id.get()),
        e::workspace.eq(place.workspace()),
        e::sandbox_name.eq(place.sandbox()),
        e::chunk_id.eq(chunk_id),
        e::principal.eq(&editor),
    );
    let edited = e::edited_at.eq(now);
    on_conn!(conn, |c| diesel::insert_into(e::table)
        .values((key, edited))
        .on_conflict((e::gateway_id, e::workspace, e::sandbox_name, e::chunk_id, e::principal))
        .do_update()
        .set(edited)
        .execute(c)
        .await)?;
    Ok(())
}

/// Returns who has edited a chunk while it had no round.
pub async fn editors(
    conn: &mut Conn,
    place: &SandboxRef,
    chunk_id: &str,
) -> Result<Vec<PrincipalId>, Error> {
    let found: Vec<String> = on_conn!(conn, |c| e::table
        .filter(e::gateway_id.eq(place.gateway.id.get()))
        .filter(e::workspace.eq(place.workspace()))
        .filter(e::sandbox_name.eq(place.sandbox()))
        .filter(e::chunk_id.eq(chunk_id))
        .select(e::principal)
        .order(e::principal)
        .load(c)
        .await)?;
    let bad = |text: &str| Error::internal(format!("`{text}` is stored in place of a principal"));
    found.iter().map(|text| PrincipalId::parse(text).ok_or_else(|| bad(text))).collect()
}

/// Returns whether a chunk without a round was edited last before a time.
pub async fn has_editors_before(conn: &mut Conn, before: Timestamp) -> Result<bool, Error> {
    let found: Option<String> = on_conn!(conn, |c| e::table
        .filter(e::edited_at.lt(before))
        .select(e::principal)
        .first(c)
        .await
        .optional())?;
    Ok(found.is_some())
}

/// Deletes the editors of chunks without a round that have edited last before a time.
pub async fn delete_editors(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    let rows = e::table.filter(e::edited_at.lt(before));
    on_conn!(conn, |c| diesel::delete(rows).execute(c).await)?;
    Ok(())
}

/// Last known state of the drafts of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = s)]
pub struct DraftState {
    /// The gateway.
    pub gateway_id: GatewayId,
    /// Workspace of the sandbox.
    pub workspace: String,
    /// Name of the sandbox.
    pub sandbox_name: String,
    /// Number of pending chunks without a round, because a limit is reached.
    pub waiting: i32,
    /// Number of pending chunks without a round that cannot be reviewed.
    pub unreadable: i32,
    /// Whether the chunks are larger than what is read at once, so that none is known.
    pub overflowing: bool,
    /// Until when new rounds were announced.
    pub announced_at: Option<Timestamp>,
}

/// Returns what was last seen of the drafts of a sandbox.
pub async fn state(conn: &mut Conn, place: &SandboxRef) -> Result<Option<DraftState>, Error> {
    let key = (place.gateway.id.get(), place.workspace(), place.sandbox());
    Ok(on_conn!(conn, |c| s::table
        .find(key)
        .select(DraftState::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Returns what was last seen of those sandboxes that have drafts without a round, on these gateways, or on all if it is
/// `None`; at most `limit`. A workspace and the name of a sandbox select further.
pub async fn states_with_waiting(
    conn: &mut Conn,
    gateways: Option<&[i64]>,
    (workspace, sandbox): (Option<&str>, Option<&str>),
    limit: i64,
) -> Result<Vec<DraftState>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = s::table
            .filter(s::waiting.gt(0).or(s::unreadable.gt(0)).or(s::overflowing.eq(true)))
            .select(DraftState::as_select())
            .order((s::gateway_id, s::workspace, s::sandbox_name))
            .limit(limit)
            .into_boxed();
        if let Some(gateways) = gateways {
            query = query.filter(s::gateway_id.eq_any(gateways));
        }
        if let Some(workspace) = workspace {
            query = query.filter(s::workspace.eq(workspace));
        }
        if let Some(sandbox) = sandbox {
            query = query.filter(s::sandbox_name.eq(sandbox));
        }
        query.load(c).await
    })?)
}

/// Stores what was seen of the drafts of a sandbox. `announced_at` stays.
pub async fn set_state(
    conn: &mut Conn,
    place: &SandboxRef,
    (waiting, unreadable, overflowing): (i32, i32, bool),
    now: Timestamp,
) -> Result<(), Error> {
    let seen = (
        s::waiting.eq(waiting),
        s::unreadable.eq(unreadable),
        s::overflowing.eq(overflowing),
        s::updated_at.eq(now),
    );
    let key = (
        s::gateway_id.eq(place.gateway.id.get()),
        s::workspace.eq(place.workspace()),
        s::sandbox_name.eq(place.sandbox()),
    );
    on_conn!(conn, |c| diesel::insert_into(s::table)
        .values((key, seen))
        .on_conflict((s::gateway_id, s::workspace, s::sandbox_name))
        .do_update()
        .set(seen)
        .execute(c)
        .await)?;
    Ok(())
}

/// Stores until when the new rounds of a sandbox were announced. The sandbox has a state.
pub async fn set_announced(
    conn: &mut Conn,
    place: &SandboxRef,
    now: Timestamp,
) -> Result<(), Error> {
    let row = s::table.find((place.gateway.id.get(), place.workspace(), place.sandbox()));
    let set = s::announced_at.eq(now);
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Deletes the state of a sandbox.
pub async fn delete_state(conn: &mut Conn, place: &SandboxRef) -> Result<(), Error> {
    let row = s::table.find((place.gateway.id.get(), place.workspace(), place.sandbox()));
    on_conn!(conn, |c| diesel::delete(row).execute(c).await)?;
    Ok(())
}

/// Returns the sandboxes of a gateway with a state.
pub async fn sandboxes_with_state(
    conn: &mut Conn,
    gateway: GatewayId,
) -> Result<HashSet<SandboxName>, Error> {
    let rows: Vec<(String, String)> = on_conn!(conn, |c| s::table
        .filter(s::gateway_id.eq(gateway.get()))
        .select((s::workspace, s::sandbox_name))
        .load(c)
        .await)?;
    Ok(rows.into_iter().map(|(workspace, name)| SandboxName { workspace, name }).collect())
}
