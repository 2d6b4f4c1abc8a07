//! How many credentials one caller may make a minute: keys, sessions and tokens together.
//!
//! A caller that is let in must not fill the database with credentials, nor hide one among thousands. In memory: each
//! replica counts for itself, and what is stored has a bound of its own.

use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::principal::PrincipalId;
use crate::error::{Error, Reason};

/// Callers that are remembered before idle ones are forgotten.
const CALLERS_MAX: usize = 100_000;

/// A token bucket for each caller.
#[derive(Debug)]
pub struct CredentialLimit {
    buckets: Option<DefaultKeyedRateLimiter<PrincipalId>>,
}

impl CredentialLimit {
    /// `per_minute` credentials a caller, as many at once; 0 is no limit.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        let quota = NonZeroU32::new(per_minute).map(Quota::per_minute);
        Self { buckets: quota.map(RateLimiter::keyed) }
    }

    /// Takes one credential from the caller's bucket.
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
    fn one_caller_is_cut_off_and_its_neighbours_are_not() {
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
    fn nought_is_no_limit() {
        let limit = CredentialLimit::new(0);
        for _ in 0..1_000 {
            limit.admit(PrincipalId::User(UserId(1))).unwrap();
        }
    }
}
