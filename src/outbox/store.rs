//! Rows that are written to `events` and `access_changes`.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::Subject;
use crate::clock::Timestamp;
use crate::db::schema::{access_changes, events};
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Serialises writers of the change log on PostgreSQL, so that revisions commit in order and a reader skips none.
const CHANGE_LOG_LOCK: i64 = 0x5348_4f52_4541_4343;

/// An event to keep.
#[derive(Debug, Insertable)]
#[diesel(table_name = events)]
pub struct NewRow<'a> {
    /// What happened.
    pub name: &'static str,
    /// The gateway concerned.
    pub gateway_id: Option<GatewayId>,
    /// Its name at that time.
    pub gateway_name: Option<&'a str>,
    /// Who did it.
    pub actor: &'a str,
    /// A JSON object.
    pub payload_json: &'a str,
    /// When.
    pub occurred_at: Timestamp,
}

/// Writes an event, without a place yet.
pub(super) async fn insert(conn: &mut Conn, row: &NewRow<'_>) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::insert_into(events::table).values(row).execute(c).await)?;
    Ok(())
}

/// Logs that a subject's access has changed. The last thing before the end of the transaction.
pub async fn log_change(conn: &mut Conn, subject: Subject, at: Timestamp) -> Result<(), Error> {
    let (kind, id) = match subject {
        Subject::User(id) => ("user", id.get()),
        Subject::ServicePrincipal(id) => ("service_principal", id.get()),
        Subject::Group(id) => ("group", id.get()),
        Subject::Gateway(id) => ("gateway", id.get()),
    };
    conn.serialise(CHANGE_LOG_LOCK).await?;
    let row = (
        access_changes::subject_kind.eq(kind),
        access_changes::subject_id.eq(id),
        access_changes::changed_at.eq(at),
    );
    on_conn!(conn, |c| diesel::insert_into(access_changes::table).values(row).execute(c).await)?;
    Ok(())
}
