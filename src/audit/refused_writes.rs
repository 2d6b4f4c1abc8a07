//! Limits the number of refused writes per credential and minute that are recorded.
//!
//! The intent of a write is stored before the domain checks it, so each write that the domain refuses adds a row.
//! Without a limit, a caller without any role could fill the disk with refusals (T16).
//!
//! Invariants
//! - a write beyond the limit is refused before its intent is stored, and counted like other repeated refusals;
//! - only refusals count: successful writes are not limited.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::SessionId;
use crate::error::{Error, Reason};

/// A caller and its session, if it has one: an attacker with a stolen session must not keep the user from revoking it.
pub type CredentialKey = (PrincipalId, Option<SessionId>);

const MINUTE_SECONDS: i64 = 60;

/// The refused writes of each caller in the current minute.
#[derive(Debug)]
pub struct RefusedWrites {
    per_minute: u32,
    minute: Mutex<Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    number: i64,
    counts: HashMap<CredentialKey, u32>,
}

impl Minute {
    fn at(&mut self, now: Timestamp) -> &mut HashMap<CredentialKey, u32> {
        let number = now.unix_seconds().div_euclid(MINUTE_SECONDS);
        if number != self.number {
            *self = Self { number, counts: HashMap::new() };
        }
        &mut self.counts
    }
}

impl RefusedWrites {
    /// Allows `each` refused writes per caller and minute; 0 means no limit.
    pub(super) fn new(per_minute: u32) -> Self {
        let per_minute = if per_minute == 0 { u32::MAX } else { per_minute };
        Self { per_minute, minute: Mutex::default() }
    }

    /// Refuses a write of a caller that has reached the limit in this minute.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub fn admit(&self, credential: CredentialKey, now: Timestamp) -> Result<(), Error> {
        let mut minute = self.minute.lock();
        if minute.at(now).get(&credential).is_none_or(|count| *count < self.per_minute) {
            return Ok(());
        }
        let left = MINUTE_SECONDS - now.unix_seconds().rem_euclid(MINUTE_SECONDS);
        let retry_in = Duration::from_secs(left.unsigned_abs());
        Err(Error::Exhausted { reason: Reason::RateLimited, retry_in })
    }

    /// Counts a write that was refused after its intent was stored.
    pub fn count(&self, credential: CredentialKey, now: Timestamp) {
        let mut minute = self.minute.lock();
        *minute.at(now).entry(credential).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::types::UserId;

    #[test]
    fn a_caller_at_the_limit_is_refused_until_the_minute_ends() {
        let refused = RefusedWrites::new(2);
        let ana = (PrincipalId::User(UserId(1)), Some(SessionId(1)));
        let bob = (PrincipalId::User(UserId(2)), None);
        let now = Timestamp::from_unix_seconds(90);
        for _ in 0..2 {
            refused.admit(ana, now).unwrap();
            refused.count(ana, now);
        }
        let Err(Error::Exhausted { reason: Reason::RateLimited, retry_in }) =
            refused.admit(ana, now)
        else {
            unreachable!("it is at the bound")
        };
        assert_eq!(retry_in, Duration::from_secs(30));
        refused.admit(bob, now).unwrap();
        // Another session of the same user.
        refused.admit((ana.0, Some(SessionId(2))), now).unwrap();
        refused.admit(ana, Timestamp::from_unix_seconds(120)).unwrap();
    }
}
