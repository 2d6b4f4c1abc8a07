//! Inserts rows into `events` and `access_changes`.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::AccessSubject;
use crate::clock::Timestamp;
use crate::db::schema::{access_changes, events};
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Serializes writers of the change log on PostgreSQL, so that revisions are committed in order and a reader skips
/// none.
const CHANGE_LOG_LOCK: i64 = 0x5348_4f52_4541_4343;

/// A row for a new event.
#[derive(Debug, Insertable)]
#[diesel(table_name = events)]
pub struct NewEventRow<'a> {
    /// Type of the event.
    pub name: &'static str,
    /// The gateway of the event.
    pub gateway_id: Option<GatewayId>,
    /// The gateway's name at that time.
    pub gateway_name: Option<&'a str>,
    /// Who made the change.
    pub actor: &'a str,
    /// A JSON object.
    pub payload_json: &'a str,
    /// Time of the event.
    pub occurred_at: Timestamp,
}

/// Writes an event, without a sequence number.
pub(super) async fn insert(conn: &mut Conn, row: &NewEventRow<'_>) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::insert_into(events::table).values(row).execute(c).await)?;
    Ok(())
}

/// Logs that a subject's access has changed. Must be the last statement of the transaction.
pub async fn log_change(
    conn: &mut Conn,
    subject: AccessSubject,
    at: Timestamp,
) -> Result<(), Error> {
    let (kind, id) = match subject {
        AccessSubject::User(id) => ("user", id.get()),
        AccessSubject::ServicePrincipal(id) => ("service_principal", id.get()),
        AccessSubject::Group(id) => ("group", id.get()),
        AccessSubject::Gateway(id) => ("gateway", id.get()),
    };
    conn.advisory_lock(CHANGE_LOG_LOCK).await?;
    let row = (
        access_changes::subject_kind.eq(kind),
        access_changes::subject_id.eq(id),
        access_changes::changed_at.eq(at),
    );
    on_conn!(conn, |c| diesel::insert_into(access_changes::table).values(row).execute(c).await)?;
    Ok(())
}
