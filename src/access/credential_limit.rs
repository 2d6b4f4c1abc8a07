//! Limit on the credentials that one caller can create per minute: keys, sessions and tokens together.
//!
//! A caller must not be able to fill the database with credentials, or to hide one among thousands. The limit is in
//! memory: each replica counts on its own, and the number of stored credentials has its own limit.

use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::principal::PrincipalId;
use crate::error::{Error, Reason};

/// Number of callers after which idle ones are dropped.
const CALLERS_MAX: usize = 100_000;

/// A token bucket for each caller.
#[derive(Debug)]
pub struct CredentialLimit {
    buckets: Option<DefaultKeyedRateLimiter<PrincipalId>>,
}

impl CredentialLimit {
    /// Allows a caller `per_minute` credentials, and as many at once. 0 means no limit.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        let quota = NonZeroU32::new(per_minute).map(Quota::per_minute);
        Self { buckets: quota.map(RateLimiter::keyed) }
    }

    /// Takes one credential from the bucket of the caller.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub fn admit(&self, principal: PrincipalId) -> Result<(), Error> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        if buckets.len() > CALLERS_MAX {
            buckets.retain_recent();
        }
        buckets.check_key(&principal).map_err(|until| Error::Exhausted {
            reason: Reason::RateLimited,
            retry_in: until.wait_time_from(DefaultClock::default().now()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::types::{ServicePrincipalId, UserId};

    #[test]
    fn the_limit_refuses_one_caller_without_affecting_others() {
        let limit = CredentialLimit::new(3);
        let ana = PrincipalId::User(UserId(1));
        for _ in 0..3 {
            limit.admit(ana).unwrap();
        }
        let refused = limit.admit(ana);
        assert!(matches!(refused, Err(Error::Exhausted { reason: Reason::RateLimited, .. })));
        limit.admit(PrincipalId::User(UserId(2))).unwrap();
        limit.admit(PrincipalId::ServicePrincipal(ServicePrincipalId(1))).unwrap();
    }

    #[test]
    fn a_limit_of_zero_means_unlimited() {
        let limit = CredentialLimit::new(0);
        for _ in 0..1_000 {
            limit.admit(PrincipalId::User(UserId(1))).unwrap();
        }
    }
}
