//! How a request is sent to a gateway: as Shoreguard's own or as that of a caller, and until when.

use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::access::standing::AccessGuard;
use crate::clock::Clock;
use crate::error::Error;
use crate::net::deadline::{self, deadline_exceeded};
use crate::upstream::connection::Lease;

/// How a caller's own request is forwarded.
#[derive(Debug)]
pub(crate) struct Forwarding {
    /// Headers of the caller.
    pub(crate) headers: HeaderMap,
    /// Deadline of the caller: nothing is sent after it.
    pub(crate) deadline: Option<Instant>,
    /// Checks the caller when the request is sent; `None` for work that is stopped in another way.
    pub(crate) guard: Option<AccessGuard>,
    /// Time of the clock that includes sleep, after which nothing is sent.
    pub(crate) send_until: Duration,
}

impl Forwarding {
    /// Returns the headers with the credential of this connection and the remaining time.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` if the deadline of the caller has passed.
    pub(super) fn headers_on(&self, lease: &Lease) -> Result<HeaderMap, Error> {
        let mut headers = self.headers.clone();
        headers.remove(AUTHORIZATION);
        if let Some(authorization) = lease.authorization() {
            headers.insert(AUTHORIZATION, authorization);
        }
        let Some(deadline) = self.deadline else { return Ok(headers) };
        let now = Instant::now();
        if deadline <= now {
            return Err(deadline_exceeded());
        }
        let time_left = deadline::remaining_timeout(deadline, now);
        if let Ok(time_left) = HeaderValue::from_str(&time_left) {
            headers.insert("grpc-timeout", time_left);
        }
        Ok(headers)
    }
}

/// How a request is sent.
#[derive(Debug)]
pub(super) enum Terms {
    /// As Shoreguard's own.
    Own {
        /// Time of the clock that includes sleep, after which nothing is sent.
        send_until: Option<Duration>,
    },
    /// As that of the caller.
    Forwarded(Box<Forwarding>),
}

impl Terms {
    /// Whether it is Shoreguard's own.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own { .. })
    }

    /// Checks right before a request is sent that it may still be.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED`.
    pub(super) fn check_time(&self, clock: &Clock) -> Result<(), Error> {
        let until = match self {
            Self::Own { send_until } => *send_until,
            Self::Forwarded(forwarding) => Some(forwarding.send_until),
        };
        if until.is_none_or(|until| clock.since_boot() < until) {
            return Ok(());
        }
        let why = "the time for the call passed before it was sent".to_owned();
        Err(Error::DeadlineExceeded { why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t13_a_replica_that_was_frozen_sends_nothing_after_its_time() {
        let clock = Clock::system();
        let send_until = clock.since_boot() + Duration::from_secs(20);
        let forwarding =
            Forwarding { headers: HeaderMap::new(), deadline: None, guard: None, send_until };
        let own = Terms::Own { send_until: Some(send_until) };
        let gated = [own, Terms::Forwarded(Box::new(forwarding))];
        assert!(gated.iter().all(|terms| terms.check_time(&clock).is_ok()));
        clock.advance(Duration::from_secs(21));
        for terms in &gated {
            let late = terms.check_time(&clock);
            assert!(matches!(late, Err(Error::DeadlineExceeded { .. })), "{terms:?}");
        }
        assert!(Terms::Own { send_until: None }.check_time(&clock).is_ok());
    }
}
