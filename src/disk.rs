//! The disk reserve: below it, only audit entries and writes of admins are accepted (T16), so that admins can still
//! free space and refusals are still recorded.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::statvfs;
use tracing::{info, warn};

use crate::error::{Error, Reason};
use crate::role::Role;

/// Suggested retry delay while the disk is low.
const RETRY_IN: Duration = Duration::from_mins(1);

/// Whether the free space on the disk of the database folder is below the reserve.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    reserve_bytes: u64,
    low: AtomicBool,
}

impl Disk {
    /// Monitors the disk that contains `folder`.
    #[must_use]
    pub fn new(folder: PathBuf, reserve_mib: u64) -> Self {
        let reserve_bytes = reserve_mib.saturating_mul(1024 * 1024);
        Self { folder, reserve_bytes, low: AtomicBool::new(false) }
    }

    /// Whether the disk was low at the last check.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Refuses a write of a caller below admin while the disk is low.
    ///
    /// # Errors
    /// `DISK_LOW`.
    pub fn admit(&self, role: Role) -> Result<(), Error> {
        if role < Role::Admin && self.is_low() {
            return Err(Error::Exhausted { reason: Reason::DiskLow, retry_in: RETRY_IN });
        }
        Ok(())
    }

    /// Checks the disk. Blocks if its file system hangs.
    pub fn refresh(&self) {
        // A folder that cannot be checked is no reason to refuse: the writes themselves will fail.
        let Some(free) = free_bytes(&self.folder) else { return };
        let low = free < self.reserve_bytes;
        if self.low.swap(low, Ordering::Relaxed) != low {
            if low {
                warn!(
                    free_bytes = free,
                    "the disk is below its reserve: only writes of admins are accepted"
                );
            } else {
                info!(free_bytes = free, "the disk is above its reserve again");
            }
        }
    }
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let found = statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}
