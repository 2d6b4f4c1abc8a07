//! Limits on what callers hold at one time: in total, and per caller.
//!
//! Invariants
//! - a share is returned when it is dropped, however the call ends;
//! - a caller that holds nothing uses no memory;
//! - a caller at its limit takes nothing from the others.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::access::principal::PrincipalId;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::net::guard::host_of;

/// Retry delay after a limit was reached: calls end all the time.
pub const RETRY_IN: Duration = Duration::from_secs(1);

/// Number of locks over which callers are distributed, so that cores rarely contend.
const SHARDS: usize = 16;

/// The holder of an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An authenticated caller.
    Principal(PrincipalId),
    /// A client address; for IPv6 its /64.
    Address(IpAddr),
    /// An authenticated caller on one gateway.
    OnGateway(PrincipalId, GatewayId),
}

impl Holder {
    /// Returns the holder of an address.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        Self::Address(host_of(address))
    }
}

/// The limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The limit on the total of all holders.
    InAll,
    /// The limit of this holder.
    OfHolder,
}

/// A resource with a limit on its total and a limit per holder.
#[derive(Debug)]
pub struct Limit {
    in_all: AtomicU64,
    in_all_max: u64,
    of_holder_max: u64,
    shards: [Mutex<HashMap<Holder, u64>>; SHARDS],
    hasher: RandomState,
}

impl Limit {
    /// Sets both limits; 0 means unlimited.
    #[must_use]
    pub fn new(in_all_max: u64, of_holder_max: u64) -> Arc<Self> {
        let unbounded = |max| if max == 0 { u64::MAX } else { max };
        Arc::new(Self {
            in_all: AtomicU64::new(0),
            in_all_max: unbounded(in_all_max),
            of_holder_max: unbounded(of_holder_max),
            shards: Default::default(),
            hasher: RandomState::new(),
        })
    }

    /// Takes an amount; 0 creates an empty share that can grow.
    ///
    /// # Errors
    /// The limit that would be exceeded; nothing is taken then.
    pub fn take(self: &Arc<Self>, holder: Holder, amount: u64) -> Result<Share, Full> {
        let mut share = Share { limit: Arc::clone(self), holder, amount: 0 };
        share.grow(amount)?;
        Ok(share)
    }

    /// Returns the total amount that is taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.in_all.load(Ordering::Relaxed)
    }

    fn shard(&self, holder: Holder) -> MutexGuard<'_, HashMap<Holder, u64>> {
        let hash = usize::try_from(self.hasher.hash_one(holder) % SHARDS as u64);
        let shard = &self.shards[hash.unwrap_or_default()];
        shard.lock()
    }

    fn add(&self, holder: Holder, amount: u64, force: bool) -> Result<(), Full> {
        let fits = |taken: u64| taken.checked_add(amount).filter(|sum| *sum <= self.in_all_max);
        if force {
            self.in_all.fetch_add(amount, Ordering::Relaxed);
        } else {
            let added = self.in_all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
            added.map_err(|_| Full::InAll)?;
        }
        let mut shard = self.shard(holder);
        let of_holder = shard.get(&holder).copied().unwrap_or_default().saturating_add(amount);
        if force || of_holder <= self.of_holder_max {
            shard.insert(holder, of_holder);
            return Ok(());
        }
        drop(shard);
        self.in_all.fetch_sub(amount, Ordering::Relaxed);
        Err(Full::OfHolder)
    }

    fn give_back(&self, holder: Holder, amount: u64) {
        self.in_all.fetch_sub(amount, Ordering::Relaxed);
        let mut shard = self.shard(holder);
        if let Some(of_holder) = shard.get_mut(&holder) {
            *of_holder = of_holder.saturating_sub(amount);
            if *of_holder == 0 {
                shard.remove(&holder);
            }
        }
    }
}

/// An amount that is held by a holder.
#[derive(Debug)]
pub struct Share {
    limit: Arc<Limit>,
    holder: Holder,
    amount: u64,
}

impl Share {
    /// Adds `amount` to the share.
    ///
    /// # Errors
    /// The limit that would be exceeded; the share is unchanged then.
    pub fn grow(&mut self, amount: u64) -> Result<(), Full> {
        if amount > 0 {
            self.limit.add(self.holder, amount, false)?;
            self.amount += amount;
        }
        Ok(())
    }

    /// Adds `amount` to the share even above a limit: for data that is already in memory and cannot be rejected.
    pub fn grow_anyway(&mut self, amount: u64) {
        if self.limit.add(self.holder, amount, true).is_ok() {
            self.amount += amount;
        }
    }

    /// Gives back the whole amount.
    pub fn clear(&mut self) {
        if self.amount > 0 {
            self.limit.give_back(self.holder, self.amount);
            self.amount = 0;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The bytes that one call holds: of its request while it arrives, and of its response until it is read.
#[derive(Debug, Clone)]
pub struct Held(Arc<Mutex<Share>>);

impl Held {
    /// Creates an empty account.
    ///
    /// # Errors
    /// The limit that would be exceeded; an empty account exceeds none.
    pub fn open(limit: &Arc<Limit>, holder: Holder) -> Result<Self, Full> {
        Ok(Self(Arc::new(Mutex::new(limit.take(holder, 0)?))))
    }

    /// Creates an empty share of the same holder that is given back independently.
    #[must_use]
    pub fn beside(&self) -> Share {
        let share = self.lock();
        Share { limit: Arc::clone(&share.limit), holder: share.holder, amount: 0 }
    }

    /// Locks and returns the share.
    pub fn lock(&self) -> MutexGuard<'_, Share> {
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

    const ANA: Holder = Holder::Principal(PrincipalId::User(UserId(1)));
    const KIM: Holder = Holder::Principal(PrincipalId::User(UserId(2)));

    #[test]
    fn a_holder_at_its_limit_does_not_reduce_the_share_of_others() {
        let limit = Limit::new(5, 3);
        let mut of_ana = limit.take(ANA, 3).unwrap();
        assert_eq!(of_ana.grow(1), Err(Full::OfHolder));
        assert_eq!(limit.take(ANA, 1).unwrap_err(), Full::OfHolder);
        let of_kim = limit.take(KIM, 2).unwrap();
        assert_eq!(limit.take(KIM, 1).unwrap_err(), Full::InAll);
        drop(of_ana);
        assert_eq!(limit.taken(), 2);
        limit.take(KIM, 1).unwrap();
        drop(of_kim);
        assert_eq!(limit.taken(), 0);
    }

    #[test]
    fn a_holder_with_an_empty_share_is_removed() {
        let limit = Limit::new(0, 0);
        for n in 0..1_000 {
            let holder = Holder::Principal(PrincipalId::User(UserId(n)));
            let mut share = limit.take(holder, 7).unwrap();
            share.grow_anyway(1);
            share.clear();
            share.grow(1).unwrap();
        }
        let held: usize = limit.shards.iter().map(|shard| shard.lock().len()).sum();
        assert_eq!((held, limit.taken()), (0, 0));
    }

    #[test]
    fn a_holder_whose_first_request_is_refused_is_not_stored() {
        let limit = Limit::new(0, 3);
        assert_eq!(limit.take(ANA, 4).unwrap_err(), Full::OfHolder);
        assert!(limit.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn ipv6_hosts_of_one_network_share_one_limit() {
        let limit = Limit::new(0, 1);
        let _held = limit.take(Holder::of_address("2001:db8::1".parse().unwrap()), 1).unwrap();
        let neighbor = Holder::of_address("2001:db8::ffff:1".parse().unwrap());
        assert_eq!(limit.take(neighbor, 1).unwrap_err(), Full::OfHolder);
        limit.take(Holder::of_address("2001:db8:0:1::1".parse().unwrap()), 1).unwrap();
    }
}
