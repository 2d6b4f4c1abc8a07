//! Rows of `events` and `event_head`.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use diesel_async::RunQueryDsl;

use crate::access::snapshot::Visible;
use crate::clock::Timestamp;
use crate::db::schema::{event_head, events};
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// An event that has its place in the order.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct Event {
    /// Its place.
    pub sequence: i64,
    /// What happened.
    pub name: String,
    /// The gateway concerned.
    pub gateway_id: Option<GatewayId>,
    /// Its name.
    pub gateway: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// A JSON object.
    pub payload_json: String,
    /// When.
    pub occurred_at: Timestamp,
}

/// Which sequences can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable)]
pub struct Kept {
    /// The last one that was given.
    pub head: i64,
    /// The first one that is kept, or the next one to be given where none is.
    pub oldest: i64,
}

/// Which events a reader may see.
#[derive(Debug, Clone)]
pub enum Shown {
    /// Every one.
    All,
    /// Those of viewers, operators and admins, each on the gateways where the reader holds that role.
    OfRoles([OfRole; 3]),
}

/// The events that a role on a gateway shows.
#[derive(Debug, Clone)]
pub struct OfRole {
    /// Names of the events.
    pub names: Vec<&'static str>,
    /// The gateways on which the reader holds the role.
    pub gateways: Visible,
}

impl OfRole {
    /// Returns whether that is every gateway, and which it is otherwise.
    fn gateways(&self) -> (bool, &[GatewayId]) {
        match &self.gateways {
            Visible::All => (true, &[]),
            Visible::Only(ids) => (false, ids),
        }
    }
}

/// Which events are asked for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The events that may be shown.
    pub shown: &'a Shown,
    /// Only of this gateway.
    pub gateway: Option<GatewayId>,
    /// Only of these names, where there are any.
    pub names: &'a [String],
}

/// Which sequences can be read.
pub async fn kept(conn: &mut Conn) -> Result<Kept, Error> {
    let row = event_head::table.select((event_head::sequence, event_head::oldest));
    Ok(on_conn!(conn, |c| row.first(c).await)?)
}

/// As [`kept`], and nobody else gives numbers or takes them away before the transaction ends.
pub async fn kept_locked(conn: &mut Conn) -> Result<Kept, Error> {
    let row = event_head::table.select((event_head::sequence, event_head::oldest));
    Ok(match conn {
        Conn::Pg(c) => row.for_update().first(c).await?,
        // The transaction has the database's one write lock already.
        Conn::Sqlite(c) => row.first(c).await?,
    })
}

/// The wanted events with a sequence after `after` and up to `until`, at most `limit`, oldest first.
pub async fn between(
    conn: &mut Conn,
    wanted: &Wanted<'_>,
    after: i64,
    until: i64,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let picked = |of: &OfRole| {
        let (every, ids) = of.gateways();
        let on_one = events::gateway_id.eq_any(ids.to_vec());
        let on_every = events::gateway_id.is_not_null().and(every.into_sql::<Bool>());
        events::name.eq_any(of.names.clone()).and(on_one.or(on_every))
    };
    Ok(on_conn!(conn, |c| {
        let mut query = events::table
            .select((
                events::sequence.assume_not_null(),
                events::name,
                events::gateway_id,
                events::gateway_name,
                events::actor,
                events::payload_json,
                events::occurred_at,
            ))
            .filter(events::sequence.gt(after))
            .filter(events::sequence.le(until))
            .order(events::sequence)
            .limit(limit)
            .into_boxed();
        if let Some(gateway) = wanted.gateway {
            query = query.filter(events::gateway_id.eq(gateway));
        }
        if let Shown::OfRoles([viewers, operators, admins]) = wanted.shown {
            query = query.filter(picked(viewers).or(picked(operators)).or(picked(admins)));
        }
        if !wanted.names.is_empty() {
            query = query.filter(events::name.eq_any(wanted.names));
        }
        query.load(c).await
    })?)
}

/// Whether an event waits for its place.
pub async fn any_unnumbered(conn: &mut Conn) -> Result<bool, Error> {
    let waiting = events::table.filter(events::sequence.is_null());
    Ok(on_conn!(conn, |c| diesel::select(diesel::dsl::exists(waiting)).get_result(c).await)?)
}

/// Gives up to `limit` events their places after `head`, in the order of their ids; answers how many.
pub async fn number(conn: &mut Conn, head: i64, limit: i64) -> Result<usize, Error> {
    // One text for both engines; diesel knows no UPDATE ... FROM.
    const NUMBER: &str = "UPDATE events SET sequence = given.place FROM (\
        SELECT id, ROW_NUMBER() OVER (ORDER BY id) + $1 AS place FROM (\
        SELECT id FROM events WHERE sequence IS NULL ORDER BY id LIMIT $2) AS waiting) AS given \
        WHERE events.id = given.id";
    Ok(on_conn!(conn, |c| diesel::sql_query(NUMBER)
        .bind::<BigInt, _>(head)
        .bind::<BigInt, _>(limit)
        .execute(c)
        .await)?)
}

/// Keeps which sequences can be read.
pub async fn set_kept(conn: &mut Conn, kept: Kept) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::update(event_head::table)
        .set((event_head::sequence.eq(kept.head), event_head::oldest.eq(kept.oldest)))
        .execute(c)
        .await)?;
    Ok(())
}

/// Sequence and time of the first events that are kept.
pub async fn first(
    conn: &mut Conn,
    oldest: i64,
    limit: i64,
) -> Result<Vec<(i64, Timestamp)>, Error> {
    Ok(on_conn!(conn, |c| events::table
        .filter(events::sequence.ge(oldest))
        .select((events::sequence.assume_not_null(), events::occurred_at))
        .order(events::sequence)
        .limit(limit)
        .load(c)
        .await)?)
}

/// Deletes the events up to a sequence.
pub async fn delete_to(conn: &mut Conn, sequence: i64) -> Result<usize, Error> {
    let old = events::table.filter(events::sequence.le(sequence));
    Ok(on_conn!(conn, |c| diesel::delete(old).execute(c).await)?)
}
