//! Rows of votes. A vote that was changed or withdrawn, or whose round has ended, has `cleared_at`.
//!
//! Queries name the place and the content of the round besides its id, since that is what the index begins with.

use diesel::dsl::auto_type;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{approval_decisions as t, approval_rounds as r, service_principals as s};
use crate::db::types::ServicePrincipalId;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::{Decision, Vote};
use crate::resources::approvals::rounds::Round;
use crate::role::Role;

/// A stored vote.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct StoredVote {
    /// Permanent id.
    pub id: i64,
    /// Name of the voter when it voted.
    pub actor: String,
    /// Role of the voter when it voted.
    pub role: String,
    /// The decision.
    pub decision: Decision,
    /// Comment of the voter.
    pub comment: Option<String>,
    /// When it was cast.
    pub created_at: Timestamp,
    /// Permanent id of the voter; `None` for an imported vote.
    pub principal: Option<String>,
    /// Digest of the content that the voter has seen; `None` for an imported vote.
    pub digest: Option<String>,
    /// When it was changed or withdrawn, or when its round ended.
    pub cleared_at: Option<Timestamp>,
}

/// A vote to store.
#[derive(Debug)]
pub struct NewVote<'a> {
    /// The narrowest workflow that applies; `None` if none does.
    pub workflow: Option<i64>,
    /// The voter.
    pub principal: PrincipalId,
    /// Name of the voter.
    pub actor: &'a str,
    /// Role of the voter.
    pub role: Role,
    /// The decision.
    pub decision: Decision,
    /// Comment.
    pub comment: Option<&'a str>,
    /// Current time.
    pub at: Timestamp,
}

impl StoredVote {
    /// Returns the vote as a tally needs it. `None` for an imported vote, which never counts.
    #[must_use]
    pub fn to_vote(&self) -> Option<Vote> {
        let principal = PrincipalId::parse(self.principal.as_deref()?)?;
        let (id, decision, cast_at) = (self.id, self.decision, self.created_at);
        Some(Vote { id, principal, decision, cast_at })
    }
}

#[auto_type]
fn of_content<'a>(round: &'a Round) -> _ {
    let gateway: &'a str = &round.place.gateway.name;
    let sandbox: &'a str = round.place.sandbox();
    let chunk: &'a str = round.chunk_id.as_str();
    t::gateway_name.eq(gateway).and(t::sandbox_name.eq(sandbox)).and(t::chunk_id.eq(chunk))
}

/// Locks the row of a service principal that votes, until the end of the transaction. A rotation of its key waits, and
/// withdraws the vote if the former rotator may have cast it.
pub async fn lock_voter(conn: &mut Conn, id: ServicePrincipalId) -> Result<(), Error> {
    // On SQLite, the transaction already holds the database's only write lock.
    if let Conn::Pg(c) = conn {
        let row = s::table.find(id.get()).select(s::id);
        let _: Option<i64> = row.for_share().first(c).await.optional()?;
    }
    Ok(())
}

/// Returns the votes of a round that were not cleared, in the order in which they were cast.
pub async fn current(conn: &mut Conn, round: &Round) -> Result<Vec<StoredVote>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(of_content(round))
        .filter(t::round_id.eq(round.id.get()))
        .filter(t::cleared_at.is_null())
        .select(StoredVote::as_select())
        .order(t::id)
        .load(c)
        .await)?)
}

/// Returns the votes of a round with an id above `after`, including those that were cleared, in the order in which they
/// were cast, at most `limit`.
pub async fn page(
    conn: &mut Conn,
    round: &Round,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredVote>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(of_content(round))
        .filter(t::round_id.eq(round.id.get()))
        .filter(t::id.gt(after))
        .select(StoredVote::as_select())
        .order(t::id)
        .limit(limit)
        .load(c)
        .await)?)
}

/// Returns how often a principal has voted in a round.
pub async fn count_by(
    conn: &mut Conn,
    round: &Round,
    principal: PrincipalId,
) -> Result<i64, Error> {
    let principal = principal.to_string();
    Ok(on_conn!(conn, |c| t::table
        .filter(of_content(round))
        .filter(t::round_id.eq(round.id.get()))
        .filter(t::principal.eq(&principal))
        .count()
        .get_result(c)
        .await)?)
}

/// Stores a vote. Returns `Exists` if the principal has a vote that was not cleared.
pub async fn insert(conn: &mut Conn, round: &Round, new: &NewVote<'_>) -> Result<(), Error> {
    let row = (
        t::workflow_id.eq(new.workflow),
        t::gateway_name.eq(&*round.place.gateway.name),
        t::workspace.eq(round.place.workspace()),
        t::sandbox_name.eq(round.place.sandbox()),
        t::chunk_id.eq(&round.chunk_id),
        t::actor.eq(new.actor),
        t::role.eq(new.role.as_str()),
        t::decision.eq(new.decision),
        t::comment.eq(new.comment),
        t::created_at.eq(new.at),
        t::round_id.eq(round.id.get()),
        t::principal.eq(new.principal.to_string()),
        t::digest.eq(&round.digest),
        t::grant_minutes.eq(round.grant_minutes),
    );
    on_conn!(conn, |c| diesel::insert_into(t::table).values(row).execute(c).await)?;
    Ok(())
}

/// Clears the vote of a principal. Returns whether there was one.
pub async fn clear(
    conn: &mut Conn,
    round: &Round,
    principal: PrincipalId,
    at: Timestamp,
) -> Result<bool, Error> {
    let own = t::round_id.eq(round.id.get()).and(t::principal.eq(principal.to_string()));
    let row = t::table.filter(own.and(t::cleared_at.is_null()));
    let set = t::cleared_at.eq(at);
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? > 0)
}

/// Clears all votes of a round.
pub async fn clear_all(conn: &mut Conn, round: &Round, at: Timestamp) -> Result<(), Error> {
    let row = t::table.filter(t::round_id.eq(round.id.get()).and(t::cleared_at.is_null()));
    let set = t::cleared_at.eq(at);
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Stores when voting ends in a round.
pub async fn set_expiry(conn: &mut Conn, round: &Round) -> Result<(), Error> {
    let (row, set) = (r::table.find(round.id.get()), r::expires_at.eq(round.expires_at));
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}
