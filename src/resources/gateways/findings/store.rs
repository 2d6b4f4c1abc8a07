//! When each finding of a gateway was opened, as columns of its row. Changes do not increment the version.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::FindingKind;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::gateways;
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Opens a finding at `since`, or closes it on `None`. Returns whether that changed anything: an open finding keeps its
/// original time.
pub async fn set(
    conn: &mut Conn,
    id: GatewayId,
    kind: FindingKind,
    since: Option<Timestamp>,
) -> Result<bool, Error> {
    macro_rules! set {
        ($column:expr) => {{
            let at = gateways::table.filter(gateways::id.eq(id.get()));
            let set = $column.eq(since);
            if since.is_some() {
                let closed = at.filter($column.is_null());
                on_conn!(conn, |c| cached(diesel::update(closed).set(set)).execute(c).await)?
            } else {
                let open = at.filter($column.is_not_null());
                on_conn!(conn, |c| cached(diesel::update(open).set(set)).execute(c).await)?
            }
        }};
    }
    let changed = match kind {
        FindingKind::AutomaticApprovals => set!(gateways::automatic_approvals_since),
        FindingKind::CredentialUnusable => set!(gateways::credential_unusable_since),
    };
    Ok(changed == 1)
}
