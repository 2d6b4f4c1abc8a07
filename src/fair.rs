//! Limits on what callers hold at one time: in total, and per caller.
//!
//! Invariants
//! - a share is returned when it is dropped, however the call ends;
//! - a caller that holds nothing uses no memory;
//! - a caller at its limit takes nothing from the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::access::principal::PrincipalId;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::net::guard::accounting_address;

/// Retry delay after a limit was reached: calls end all the time.
pub const RETRY_IN: Duration = Duration::from_secs(1);

/// Number of locks over which callers are distributed, so that cores rarely contend.
const SHARDS: usize = 16;

/// The holder of an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitHolder {
    /// An authenticated caller.
    Principal(PrincipalId),
    /// A client address; for IPv6 its /64.
    Address(IpAddr),
    /// An authenticated caller on one gateway.
    OnGateway(PrincipalId, GatewayId),
}

/// Returns the number of a principal. A user and a service principal can have the same.
fn principal_number(principal: PrincipalId) -> u64 {
    match principal {
        PrincipalId::User(id) => id.get().unsigned_abs(),
        PrincipalId::ServicePrincipal(id) => id.get().unsigned_abs(),
    }
}

impl LimitHolder {
    /// Returns the holder of an address.
    #[must_use]
    pub fn from_address(address: IpAddr) -> Self {
        Self::Address(accounting_address(address))
    }

    /// Returns the number of the lock that this holder uses. Computed without a hash, since each call needs several.
    fn shard(self) -> usize {
        let number = match self {
            Self::Principal(principal) => principal_number(principal),
            Self::Address(IpAddr::V4(address)) => u32::from(address).into(),
            // The first half of the address: the others are zero, see `accounting_address`.
            Self::Address(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments().map(u64::from);
                (a << 48) | (b << 32) | (c << 16) | d
            }
            Self::OnGateway(principal, gateway) => {
                principal_number(principal) ^ (gateway.get().unsigned_abs() << 32)
            }
        };
        // The upper bits of the product depend on all bits of the number (Fibonacci hashing).
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SHARDS.ilog2());
        usize::try_from(spread).unwrap_or_default()
    }
}

/// The limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// The limit on the total of all holders.
    Total,
    /// The limit of this holder.
    PerHolder,
}

/// A resource with a limit on its total and a limit per holder.
#[derive(Debug)]
pub struct FairLimit {
    total: AtomicU64,
    total_max: u64,
    holder_max: u64,
    shards: [Mutex<HashMap<LimitHolder, u64>>; SHARDS],
}

impl FairLimit {
    /// Sets both limits; 0 means unlimited.
    #[must_use]
    pub fn new(total_max: u64, holder_max: u64) -> Arc<Self> {
        let unbounded = |max| if max == 0 { u64::MAX } else { max };
        Arc::new(Self {
            total: AtomicU64::new(0),
            total_max: unbounded(total_max),
            holder_max: unbounded(holder_max),
            shards: Default::default(),
        })
    }

    /// Takes an amount; 0 creates an empty share that can grow.
    ///
    /// # Errors
    /// The limit that would be exceeded; nothing is taken then.
    pub fn acquire(
        self: &Arc<Self>,
        holder: LimitHolder,
        amount: u64,
    ) -> Result<LimitShare, LimitReached> {
        let mut share = LimitShare { limit: Arc::clone(self), holder, amount: 0 };
        share.grow(amount)?;
        Ok(share)
    }

    /// Returns the total amount that is taken.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    fn shard(&self, holder: LimitHolder) -> MutexGuard<'_, HashMap<LimitHolder, u64>> {
        self.shards[holder.shard()].lock()
    }

    fn add(&self, holder: LimitHolder, amount: u64, force: bool) -> Result<(), LimitReached> {
        let fits = |taken: u64| taken.checked_add(amount).filter(|sum| *sum <= self.total_max);
        if force {
            self.total.fetch_add(amount, Ordering::Relaxed);
        } else {
            let added = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
            added.map_err(|_| LimitReached::Total)?;
        }
        let mut shard = self.shard(holder);
        match shard.entry(holder) {
            Entry::Occupied(mut held) => {
                let holder_total = held.get().saturating_add(amount);
                if force || holder_total <= self.holder_max {
                    held.insert(holder_total);
                    return Ok(());
                }
            }
            Entry::Vacant(vacant) => {
                if force || amount <= self.holder_max {
                    vacant.insert(amount);
                    return Ok(());
                }
            }
        }
        drop(shard);
        self.total.fetch_sub(amount, Ordering::Relaxed);
        Err(LimitReached::PerHolder)
    }

    fn release(&self, holder: LimitHolder, amount: u64) {
        self.total.fetch_sub(amount, Ordering::Relaxed);
        if let Entry::Occupied(mut held) = self.shard(holder).entry(holder) {
            let left = held.get().saturating_sub(amount);
            if left == 0 {
                held.remove();
            } else {
                held.insert(left);
            }
        }
    }
}

/// An amount that is held by a holder.
#[derive(Debug)]
pub struct LimitShare {
    limit: Arc<FairLimit>,
    holder: LimitHolder,
    amount: u64,
}

impl LimitShare {
    /// Adds `amount` to the share.
    ///
    /// # Errors
    /// The limit that would be exceeded; the share is unchanged then.
    pub fn grow(&mut self, amount: u64) -> Result<(), LimitReached> {
        if amount > 0 {
            self.limit.add(self.holder, amount, false)?;
            self.amount += amount;
        }
        Ok(())
    }

    /// Adds `amount` to the share even above a limit: for data that is already in memory and cannot be rejected.
    pub fn force_grow(&mut self, amount: u64) {
        if self.limit.add(self.holder, amount, true).is_ok() {
            self.amount += amount;
        }
    }

    /// Gives back the whole amount.
    pub fn clear(&mut self) {
        if self.amount > 0 {
            self.limit.release(self.holder, self.amount);
            self.amount = 0;
        }
    }
}

impl Drop for LimitShare {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The bytes that one call holds: of its request while it arrives, and of its response until it is read.
#[derive(Debug, Clone)]
pub struct MemoryAccount(Arc<Mutex<LimitShare>>);

impl MemoryAccount {
    /// Creates an empty account.
    ///
    /// # Errors
    /// The limit that would be exceeded; an empty account exceeds none.
    pub fn new(limit: &Arc<FairLimit>, holder: LimitHolder) -> Result<Self, LimitReached> {
        Ok(Self(Arc::new(Mutex::new(limit.acquire(holder, 0)?))))
    }

    /// Creates an empty share of the same holder that is given back independently.
    #[must_use]
    pub fn new_share(&self) -> LimitShare {
        let share = self.lock();
        LimitShare { limit: Arc::clone(&share.limit), holder: share.holder, amount: 0 }
    }

    /// Locks and returns the share.
    pub fn lock(&self) -> MutexGuard<'_, LimitShare> {
        self.0.lock()
    }
}

/// Returns the error for bytes that exceed the limits.
#[must_use]
pub fn too_many_bytes() -> Error {
    Error::Exhausted { reason: Reason::TooManyBytes, retry_in: RETRY_IN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::types::UserId;

    const ANA: LimitHolder = LimitHolder::Principal(PrincipalId::User(UserId(1)));
    const KIM: LimitHolder = LimitHolder::Principal(PrincipalId::User(UserId(2)));

    #[test]
    fn a_holder_at_its_limit_does_not_reduce_the_share_of_others() {
        let limit = FairLimit::new(5, 3);
        let mut of_ana = limit.acquire(ANA, 3).unwrap();
        assert_eq!(of_ana.grow(1), Err(LimitReached::PerHolder));
        assert_eq!(limit.acquire(ANA, 1).unwrap_err(), LimitReached::PerHolder);
        let of_kim = limit.acquire(KIM, 2).unwrap();
        assert_eq!(limit.acquire(KIM, 1).unwrap_err(), LimitReached::Total);
        drop(of_ana);
        assert_eq!(limit.in_use(), 2);
        limit.acquire(KIM, 1).unwrap();
        drop(of_kim);
        assert_eq!(limit.in_use(), 0);
    }

    #[test]
    fn a_holder_with_an_empty_share_is_removed() {
        let limit = FairLimit::new(0, 0);
        for n in 0..1_000 {
            let holder = LimitHolder::Principal(PrincipalId::User(UserId(n)));
            let mut share = limit.acquire(holder, 7).unwrap();
            share.force_grow(1);
            share.clear();
            share.grow(1).unwrap();
        }
        let held: usize = limit.shards.iter().map(|shard| shard.lock().len()).sum();
        assert_eq!((held, limit.in_use()), (0, 0));
    }

    #[test]
    fn a_holder_whose_first_request_is_refused_is_not_stored() {
        let limit = FairLimit::new(0, 3);
        assert_eq!(limit.acquire(ANA, 4).unwrap_err(), LimitReached::PerHolder);
        assert!(limit.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn ipv6_hosts_of_one_network_share_one_limit() {
        let limit = FairLimit::new(0, 1);
        let _held =
            limit.acquire(LimitHolder::from_address("2001:db8::1".parse().unwrap()), 1).unwrap();
        let neighbor = LimitHolder::from_address("2001:db8::ffff:1".parse().unwrap());
        assert_eq!(limit.acquire(neighbor, 1).unwrap_err(), LimitReached::PerHolder);
        limit.acquire(LimitHolder::from_address("2001:db8:0:1::1".parse().unwrap()), 1).unwrap();
    }
}
