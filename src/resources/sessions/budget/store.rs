//! Budgets of failed logins, and the addresses that accounts are used from, as rows.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{ADDRESS_KNOWN, Level};
use crate::clock::Timestamp;
use crate::db::schema::{known_addresses, login_budgets};
use crate::db::types::UserId;
use crate::db::{Conn, on_conn};
use crate::delete_first;
use crate::error::Error;

/// The level of a subject, which is made where it is not there; nobody else reads it to change it until the end of the
/// transaction.
pub async fn locked(
    conn: &mut Conn,
    subject: &str,
    account: Option<&str>,
    now: Timestamp,
) -> Result<Level, Error> {
    use login_budgets as t;
    let row = (
        t::subject.eq(subject),
        t::account.eq(account),
        t::milli_failures.eq(0),
        t::counted_at.eq(now),
        t::forget_at.eq(now),
    );
    // The update changes nothing and takes the row's lock, which PostgreSQL needs.
    let (milli, counted_at) = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .on_conflict(t::subject)
        .do_update()
        .set(t::subject.eq(subject))
        .returning((t::milli_failures, t::counted_at))
        .get_result(c)
        .await)?;
    Ok(Level { milli, counted_at })
}

/// Stores the level of a subject.
pub async fn put(conn: &mut Conn, subject: &str, level: Level) -> Result<(), Error> {
    use login_budgets as t;
    let set = (
        t::milli_failures.eq(level.milli),
        t::counted_at.eq(level.counted_at),
        t::forget_at.eq(level.forget_at()),
    );
    on_conn!(conn, |c| diesel::update(t::table.filter(t::subject.eq(subject)))
        .set(set)
        .execute(c)
        .await)?;
    Ok(())
}

/// Forgets one subject.
pub async fn forget(conn: &mut Conn, subject: &str) -> Result<(), Error> {
    use login_budgets as t;
    on_conn!(conn, |c| diesel::delete(t::table.filter(t::subject.eq(subject))).execute(c).await)?;
    Ok(())
}

/// Forgets an account and its pairs; answers how many.
pub async fn forget_account(conn: &mut Conn, account: &str) -> Result<usize, Error> {
    use login_budgets as t;
    let gone = on_conn!(conn, |c| diesel::delete(
        t::table.filter(t::subject.eq(account).or(t::account.eq(account)))
    )
    .execute(c)
    .await)?;
    Ok(gone)
}

/// Forgets what is as good as new; answers how many.
pub async fn forget_faded(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<usize, Error> {
    use login_budgets as t;
    Ok(delete_first!(conn, t, t::forget_at.lt(now), t::forget_at, limit)?)
}

/// Whether a user has logged in from an address lately. The same query for nobody.
pub async fn is_known(
    conn: &mut Conn,
    user: Option<UserId>,
    address: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    use known_addresses as t;
    let found: Option<i64> = on_conn!(conn, |c| t::table
        .filter(t::user_id.eq(user.map_or(0, UserId::get)).and(t::address.eq(address)))
        .filter(t::seen_at.gt(now.minus(ADDRESS_KNOWN)))
        .select(t::id)
        .first(c)
        .await
        .optional())?;
    Ok(found.is_some())
}

/// Notes that a user has logged in from an address.
pub async fn know(
    conn: &mut Conn,
    user: UserId,
    address: &str,
    now: Timestamp,
) -> Result<(), Error> {
    use known_addresses as t;
    let row = (t::user_id.eq(user.get()), t::address.eq(address), t::seen_at.eq(now));
    on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .on_conflict((t::user_id, t::address))
        .do_update()
        .set(t::seen_at.eq(now))
        .execute(c)
        .await)?;
    Ok(())
}

/// Keeps the addresses of a user that were seen last, at most `keep`.
pub async fn know_no_more(conn: &mut Conn, user: UserId, keep: i64) -> Result<(), Error> {
    use known_addresses as t;
    let beyond: Vec<i64> = on_conn!(conn, |c| t::table
        .filter(t::user_id.eq(user.get()))
        .select(t::id)
        .order((t::seen_at.desc(), t::id.desc()))
        .offset(keep)
        .limit(i64::MAX)
        .load(c)
        .await)?;
    if !beyond.is_empty() {
        let gone = t::table.filter(t::id.eq_any(&beyond));
        on_conn!(conn, |c| diesel::delete(gone).execute(c).await)?;
    }
    Ok(())
}

/// Forgets addresses that were not seen since; answers how many.
pub async fn forget_addresses(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    use known_addresses as t;
    Ok(delete_first!(conn, t, t::seen_at.lt(before), t::seen_at, limit)?)
}
