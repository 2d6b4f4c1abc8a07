//! Limits how much of one gateway's responses Shoreguard reads for its own calls: bytes and messages per minute, and
//! sandboxes per list (T20).
//!
//! Invariants
//! - each process has a separate budget for each gateway: if it is exceeded, only reads from that gateway stop, until
//!   the next minute;
//! - callers that list, watch or run commands can use up a budget without blocking calls on a single object: those may
//!   use as much again;
//! - an exceeded limit stays recorded until it is reported, even if the minute ends first;
//! - probes are counted and never rejected: a gateway that sends too much is not unreachable.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::access::policy::Guard;
use crate::clock::Clock;
use crate::config::Gateways;
use crate::error::{Error, Reason};

const MINUTE_SECONDS: i64 = 60;

/// Maximum number of sandboxes that are listed per gateway (T20).
pub const SANDBOXES_MAX: usize = 10_000;

/// A quantity that a gateway sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Bytes of responses.
    Bytes,
    /// Messages of responses: log lines, sandbox events, chunks of output.
    Messages,
    /// Sandboxes in one list.
    Sandboxes,
}

impl Sent {
    /// Returns the stored form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Messages => "messages",
            Self::Sandboxes => "sandboxes",
        }
    }
}

/// The share of the budget that a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    /// Responses whose length callers control: up to the configured limit.
    Bulk,
    /// Calls on a single object: up to twice the configured limit.
    Single,
}

impl Draw {
    /// Returns the share that the responses of a proxied method use.
    pub(crate) fn of(guard: Option<&Guard>) -> Self {
        if guard.is_some_and(|guard| guard.bulk) { Self::Bulk } else { Self::Single }
    }

    fn times(self) -> u64 {
        match self {
            Self::Bulk => 1,
            Self::Single => 2,
        }
    }
}

/// Usage in the current minute.
#[derive(Debug, Default)]
struct Minute {
    number: i64,
    bytes: u64,
    messages: u64,
    exceeded: Option<Sent>,
}

/// The budget of one gateway.
#[derive(Debug)]
pub struct Budget {
    clock: Clock,
    bytes_max: u64,
    messages_max: u64,
    minute: Mutex<Minute>,
}

impl Budget {
    /// Creates the configured budget with nothing used.
    #[must_use]
    pub fn new(config: &Gateways, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            bytes_max: config.bytes_per_minute,
            messages_max: config.messages_per_minute,
            minute: Mutex::default(),
        })
    }

    /// Returns the limit per minute, or per list for sandboxes.
    #[must_use]
    pub fn limit(&self, sent: Sent) -> u64 {
        match sent {
            Sent::Bytes => self.bytes_max,
            Sent::Messages => self.messages_max,
            Sent::Sandboxes => SANDBOXES_MAX as u64,
        }
    }

    /// Checks whether more may be read.
    ///
    /// # Errors
    /// `GATEWAY_OVER_BUDGET` until the minute ends.
    pub(crate) fn check(&self, draw: Draw) -> Result<(), Error> {
        let (minute, left) = self.minute();
        self.verdict(&minute, draw, left)
    }

    /// Counts the bytes and messages of a response.
    ///
    /// # Errors
    /// `GATEWAY_OVER_BUDGET` if the limit is exceeded.
    pub(crate) fn spend(&self, bytes: usize, messages: usize, draw: Draw) -> Result<(), Error> {
        let (mut minute, left) = self.minute();
        minute.bytes = minute.bytes.saturating_add(bytes as u64);
        minute.messages = minute.messages.saturating_add(messages as u64);
        if let Some(sent) = self.over(&minute, Draw::Bulk) {
            minute.exceeded = Some(sent);
        }
        self.verdict(&minute, draw, left)
    }

    /// Records that a list had more sandboxes than the limit.
    pub(crate) fn too_many_sandboxes(&self) {
        self.minute().0.exceeded = Some(Sent::Sandboxes);
    }

    /// Returns the exceeded limit, or `None` if none was exceeded or it was already reported.
    pub(crate) fn exceeded(&self) -> Option<Sent> {
        self.minute().0.exceeded
    }

    /// Clears an exceeded limit after it was reported.
    pub(crate) fn told(&self, sent: Sent) {
        self.minute().0.exceeded.take_if(|exceeded| *exceeded == sent);
    }

    fn over(&self, minute: &Minute, draw: Draw) -> Option<Sent> {
        if minute.bytes > self.bytes_max.saturating_mul(draw.times()) {
            return Some(Sent::Bytes);
        }
        let most = self.messages_max.saturating_mul(draw.times());
        (minute.messages > most).then_some(Sent::Messages)
    }

    fn verdict(&self, minute: &Minute, draw: Draw, left: Duration) -> Result<(), Error> {
        let over = |_| Error::Exhausted { reason: Reason::GatewayOverBudget, retry_in: left };
        self.over(minute, draw).map(over).map_or(Ok(()), Err)
    }

    /// Returns the current minute and the time until it ends. Starts a new minute if the clock was set back.
    fn minute(&self) -> (MutexGuard<'_, Minute>, Duration) {
        let now = self.clock.now().unix_seconds();
        let number = now.div_euclid(MINUTE_SECONDS);
        let mut minute = self.minute.lock();
        if minute.number != number {
            *minute = Minute { number, exceeded: minute.exceeded, ..Minute::default() };
        }
        let left = MINUTE_SECONDS - now.rem_euclid(MINUTE_SECONDS);
        (minute, Duration::from_secs(left.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_budget_is_reset_every_minute_and_has_a_reserve_for_single_calls() {
        let mut config = Config::from_toml("").unwrap().gateways;
        (config.bytes_per_minute, config.messages_per_minute) = (100, 3);
        let clock = Clock::system();
        // Starts at the beginning of a minute.
        let into = clock.now().unix_seconds().rem_euclid(MINUTE_SECONDS);
        clock.advance(Duration::from_secs((MINUTE_SECONDS - into).unsigned_abs()));
        let budget = Budget::new(&config, clock.clone());
        let (list, stop) = (Draw::Bulk, Draw::Single);
        for (bytes, messages, exceeded) in
            [(100, 3, None), (101, 0, Some(Sent::Bytes)), (0, 4, Some(Sent::Messages))]
        {
            assert_eq!(budget.spend(bytes, messages, list).is_err(), exceeded.is_some());
            assert_eq!(budget.check(list).is_err(), exceeded.is_some());
            assert!(budget.check(stop).is_ok(), "lists leave as much again to it");
            assert_eq!(budget.exceeded(), exceeded);
            clock.advance(Duration::from_mins(1));
            assert!(budget.check(list).is_ok());
            assert_eq!(budget.exceeded(), exceeded, "until it is told of");
            if let Some(sent) = exceeded {
                budget.told(sent);
            }
            assert_eq!(budget.exceeded(), None);
        }
        assert!(budget.spend(200, 0, stop).is_ok());
        assert!(budget.spend(1, 0, stop).is_err(), "which has an end too");
    }
}
