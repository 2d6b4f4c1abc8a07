//! Keeps the last active admin: without one, no user could manage the fleet.
//!
//! An admin is here a user who is active, can log in by a password or an identity provider, and is admin by its own
//! role or by one of its groups. Service principals do not count. A fleet without such a user, for example with service
//! principals only, is not restricted.
//!
//! Invariants
//! - [`lock`] comes first in each transaction that can remove an admin, and [`require_remaining`] after its change:
//!   concurrent transactions are serialized, and the second counts the admins that the first has left.

use super::store;
use crate::db::Conn;
use crate::error::{Error, Reason};
use crate::resources::access_bindings::effect;

/// Proof that the transaction holds the lock, with the state before its change.
#[derive(Debug)]
#[must_use = "after the change it goes to `must_remain`"]
pub struct AdminsLock {
    any_before: bool,
}

/// Takes the lock for changes of admins. Must come first in the transaction: data that was read before it may be stale.
pub async fn lock(conn: &mut Conn) -> Result<AdminsLock, Error> {
    effect::lock(conn).await?;
    Ok(AdminsLock { any_before: store::has_active_admin(conn).await? })
}

/// Rejects a change that has removed the last active admin.
pub async fn require_remaining(conn: &mut Conn, locked: AdminsLock) -> Result<(), Error> {
    if !locked.any_before || store::has_active_admin(conn).await? {
        return Ok(());
    }
    Err(Error::refused(Reason::LastAdmin, "the last active admin must stay"))
}
