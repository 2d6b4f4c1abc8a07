//! Rows of `replicas`: heartbeats of live processes, on the database's clock.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::cached::cached;
use super::schema::replicas;
use super::{Conn, Db, on_conn};
use crate::clock::Timestamp;
use crate::error::Error;

/// Time without a heartbeat after which a replica counts as dead.
pub const DEAD_AFTER: Duration = Duration::from_mins(1);

/// Stores a heartbeat; the first one creates the row.
pub async fn record_heartbeat(db: &Db, id: &str) -> Result<(), Error> {
    let mut conn = db.write().await?;
    let now = db.now(&mut conn).await?;
    let row = (replicas::id.eq(id), replicas::started_at.eq(now), replicas::heartbeat_at.eq(now));
    let upsert = diesel::insert_into(replicas::table)
        .values(row)
        .on_conflict(replicas::id)
        .do_update()
        .set(replicas::heartbeat_at.eq(now));
    on_conn!(&mut conn, |c| cached(upsert).execute(c).await)?;
    Ok(())
}

/// Deletes the row of a replica that stops.
pub async fn remove(db: &Db, id: &str) -> Result<(), Error> {
    let mut conn = db.write().await?;
    on_conn!(&mut conn, |c| diesel::delete(replicas::table.find(id)).execute(c).await)?;
    Ok(())
}

/// Deletes the rows of dead replicas.
pub async fn delete_dead(conn: &mut Conn, now: Timestamp) -> Result<usize, Error> {
    let since = now.minus(DEAD_AFTER);
    let dead = replicas::table.filter(replicas::heartbeat_at.lt(since));
    Ok(on_conn!(conn, |c| diesel::delete(dead).execute(c).await)?)
}

/// Deletes all rows. Only for a database that no other process uses: the replicas are dead.
pub async fn delete_all(conn: &mut Conn) -> Result<usize, Error> {
    Ok(on_conn!(conn, |c| diesel::delete(replicas::table).execute(c).await)?)
}
