//! Rows of webhooks that the server disables.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::webhooks as t;
use crate::db::types::WebhookId;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::webhooks::store::Head;

/// Returns the active webhooks that have failed since at least a time, with at least so many failed attempts.
pub(in crate::resources::webhooks) async fn failing(
    conn: &mut Conn,
    since: Timestamp,
    failures: i32,
) -> Result<Vec<WebhookId>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::is_active.eq(true))
        .filter(t::failing_since.le(since))
        .filter(t::failures.ge(failures))
        .select(t::id)
        .load(c)
        .await)?)
}

/// Switches a webhook off if its version is still that of `head`, and increments the version. Returns whether it was
/// switched off.
///
/// # Errors
/// Those of the database.
pub(super) async fn disable(
    conn: &mut Conn,
    head: &Head,
    now: Timestamp,
    reason: &str,
    stopped_sequence: i64,
) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(head.id.get()).and(t::version.eq(head.version)));
    let set = (
        t::is_active.eq(false),
        t::disabled_at.eq(Some(now)),
        t::disabled_reason.eq(Some(reason)),
        t::stopped_sequence.eq(Some(stopped_sequence)),
        t::updated_at.eq(now),
        t::version.eq(head.version + 1),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}
