//! How much one gateway may tell us on our own account: bytes and messages a minute, and sandboxes in a list (T20).
//!
//! Invariants
//! - each gateway has a budget of its own, in the memory of each process: one that is spent stops the reading of that
//!   gateway until the next minute, and nothing else;
//! - whoever lists, follows or lets commands write can spend a budget, and keeps nobody from acting on one thing: for that
//!   there is as much again;
//! - what a budget was exceeded by is noted until it is told of, whatever comes in between;
//! - a probe is counted and never refused: a gateway that says too much is not one that is away.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::access::policy::Guard;
use crate::clock::Clock;
use crate::config::Gateways;
use crate::error::{Error, Reason};

const MINUTE_SECONDS: i64 = 60;

/// Sandboxes of one gateway that are listed at most (T20).
pub const SANDBOXES_MAX: usize = 10_000;

/// What a gateway sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Bytes of answers.
    Bytes,
    /// Messages of answers: lines of logs, what happens to a sandbox, pieces of output.
    Messages,
    /// Sandboxes in one list.
    Sandboxes,
}

impl Sent {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Messages => "messages",
            Self::Sandboxes => "sandboxes",
        }
    }
}

/// What a call draws on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    /// Answers that are as long as callers please: as much as is configured.
    Bulk,
    /// What is asked of one thing or done to it: as much again.
    Single,
}

impl Draw {
    /// Returns what the answers of a proxied method draw on.
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

/// What was sent in the present minute.
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
    /// As it is configured, with nothing spent.
    #[must_use]
    pub fn new(config: &Gateways, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            bytes_max: config.bytes_per_minute,
            messages_max: config.messages_per_minute,
            minute: Mutex::default(),
        })
    }

    /// Most that is taken in a minute.
    #[must_use]
    pub fn limit(&self, sent: Sent) -> u64 {
        match sent {
            Sent::Bytes => self.bytes_max,
            Sent::Messages => self.messages_max,
            Sent::Sandboxes => SANDBOXES_MAX as u64,
        }
    }

    /// Whether anything may be read.
    ///
    /// # Errors
    /// `GATEWAY_OVER_BUDGET` until the minute is over.
    pub(crate) fn check(&self, draw: Draw) -> Result<(), Error> {
        let (minute, left) = self.minute();
        self.verdict(&minute, draw, left)
    }

    /// Counts an answer's bytes and messages.
    ///
    /// # Errors
    /// `GATEWAY_OVER_BUDGET` where it was too much.
    pub(crate) fn spend(&self, bytes: usize, messages: usize, draw: Draw) -> Result<(), Error> {
        let (mut minute, left) = self.minute();
        minute.bytes = minute.bytes.saturating_add(bytes as u64);
        minute.messages = minute.messages.saturating_add(messages as u64);
        if let Some(sent) = self.over(&minute, Draw::Bulk) {
            minute.exceeded = Some(sent);
        }
        self.verdict(&minute, draw, left)
    }

    /// Notes that a list had more sandboxes than are taken.
    pub(crate) fn too_many_sandboxes(&self) {
        self.minute().0.exceeded = Some(Sent::Sandboxes);
    }

    /// What it was exceeded by, as long as that was not told of.
    pub(crate) fn exceeded(&self) -> Option<Sent> {
        self.minute().0.exceeded
    }

    /// Notes that this was told of.
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

    /// The present minute, and how long it lasts. A clock that was set back begins another.
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
    fn what_is_spent_comes_back_with_the_minute() {
        let mut config = Config::from_toml("").unwrap().gateways;
        (config.bytes_per_minute, config.messages_per_minute) = (100, 3);
        let clock = Clock::system();
        // From the beginning of a minute on.
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
