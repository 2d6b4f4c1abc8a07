//! Rows of certificate expiries.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::CertificateKind;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::gateway_certificates as t;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Expiry of a certificate of a gateway.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct CertificateRow {
    /// Id of the gateway.
    pub gateway_id: i64,
    /// Role of the certificate.
    pub kind: String,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Fewest days before the expiry that were reported.
    pub told_days: Option<i64>,
}

/// Returns the certificates of a gateway.
pub async fn list(conn: &mut Conn, gateway: i64) -> Result<Vec<CertificateRow>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway))
        .select(CertificateRow::as_select())
        .load(c)
        .await)?)
}

/// Inserts or replaces the certificate of a kind.
pub async fn put(conn: &mut Conn, row: &CertificateRow) -> Result<(), Error> {
    let new = (
        t::gateway_id.eq(row.gateway_id),
        t::kind.eq(&row.kind),
        t::expires_at.eq(row.expires_at),
        t::told_days.eq(row.told_days),
    );
    let then = (t::expires_at.eq(row.expires_at), t::told_days.eq(row.told_days));
    on_conn!(conn, |c| {
        let insert = diesel::insert_into(t::table).values(new);
        let upsert = insert.on_conflict((t::gateway_id, t::kind)).do_update().set(then);
        cached(upsert).execute(c).await
    })?;
    Ok(())
}

/// Deletes the certificate of a kind.
pub async fn delete(conn: &mut Conn, gateway: i64, kind: CertificateKind) -> Result<(), Error> {
    let at = t::table.filter(t::gateway_id.eq(gateway).and(t::kind.eq(kind.as_str())));
    on_conn!(conn, |c| diesel::delete(at).execute(c).await)?;
    Ok(())
}
