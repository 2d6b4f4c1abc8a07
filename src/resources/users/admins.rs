//! The last active admin stays: a fleet that nobody can log in to as admin is lost to its people.
//!
//! An admin, here, is a user that is active, can log in by a password or an identity provider, and is admin by its own
//! role or by one of its groups. Service principals don't count: a fleet may have them alone, and is then not held up.
//!
//! Invariants
//! - [`lock`] comes first in each transaction that can take an admin away, and [`must_remain`] after its change: two at
//!   the same moment stand in line, and the second counts what the first has left.

use super::store;
use crate::db::Conn;
use crate::error::{Error, Reason};
use crate::resources::access_bindings::effect;

/// That a transaction holds the lock, and what it found.
#[derive(Debug)]
#[must_use = "after the change it goes to `must_remain`"]
pub struct Locked {
    any_before: bool,
}

/// Waits for the turn to change who is admin. The first thing in the transaction: whatever was read before it may be
/// gone by now.
pub async fn lock(conn: &mut Conn) -> Result<Locked, Error> {
    effect::turn(conn).await?;
    Ok(Locked { any_before: store::any_active_admin(conn).await? })
}

/// Refuses a change that has taken the last active admin away.
pub async fn must_remain(conn: &mut Conn, locked: Locked) -> Result<(), Error> {
    if !locked.any_before || store::any_active_admin(conn).await? {
        return Ok(());
    }
    Err(Error::refused(Reason::LastAdmin, "the last active admin must stay"))
}
