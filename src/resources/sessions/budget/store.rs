//! Rows of the budgets of failed logins, and of the known addresses of users.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{ADDRESS_KNOWN, Level};
use crate::clock::Timestamp;
use crate::db::schema::{known_addresses, login_budgets};
use crate::db::types::UserId;
use crate::db::{Conn, on_conn};
use crate::delete_first;
use crate::error::Error;

/// Returns the level of a subject, and locks it until the end of the transaction. Creates it if it does not exist.
pub async fn lock_level(
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
    // The update changes nothing but takes the row lock, which PostgreSQL needs.
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
        t::forget_at.eq(level.empty_at()),
    );
    on_conn!(conn, |c| diesel::update(t::table.filter(t::subject.eq(subject)))
        .set(set)
        .execute(c)
        .await)?;
    Ok(())
}

/// Deletes the budget of a subject.
pub async fn delete(conn: &mut Conn, subject: &str) -> Result<(), Error> {
    use login_budgets as t;
    on_conn!(conn, |c| diesel::delete(t::table.filter(t::subject.eq(subject))).execute(c).await)?;
    Ok(())
}

/// Deletes the budgets of an account and of its pairs. Returns their number.
pub async fn delete_of_account(conn: &mut Conn, account: &str) -> Result<usize, Error> {
    use login_budgets as t;
    let gone = on_conn!(conn, |c| diesel::delete(
        t::table.filter(t::subject.eq(account).or(t::account.eq(account)))
    )
    .execute(c)
    .await)?;
    Ok(gone)
}

/// Deletes budgets that have decayed. Returns their number.
pub async fn delete_decayed(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<usize, Error> {
    use login_budgets as t;
    Ok(delete_first!(conn, t, t::forget_at.lt(now), t::forget_at, limit)?)
}

/// Returns whether a user has recently logged in from an address. Runs the same query for `None`, so that the time does
/// not reveal whether the account exists.
pub async fn is_known_address(
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

/// Records that a user has logged in from an address.
pub async fn add_known_address(
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

/// Deletes all but the `keep` most recently used addresses of a user.
pub async fn trim_known_addresses(conn: &mut Conn, user: UserId, keep: i64) -> Result<(), Error> {
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

/// Deletes addresses that were last used before `before`. Returns their number.
pub async fn delete_old_addresses(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    use known_addresses as t;
    Ok(delete_first!(conn, t, t::seen_at.lt(before), t::seen_at, limit)?)
}
