//! How much one gateway may tell us on our own account: bytes and messages a minute, and sandboxes in a list (T20).
//!
//! Invariants
//! - each gateway has a budget of its own, in the memory of each process: one that is spent stops the reading of that
//!   gateway until the next minute, and nothing else;
//! - what a budget was exceeded by is noted until it is told of, whatever comes in between;
//! - a probe is counted and never refused: a gateway that says too much is not one that is away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Gateways;
use crate::error::{Error, Reason};

const MINUTE_SECONDS: i64 = 60;

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
            Sent::Sandboxes => super::sandbox::SANDBOXES_MAX as u64,
        }
    }

    /// Whether anything may be read.
    ///
    /// # Errors
    /// `GATEWAY_OVER_BUDGET` until the minute is over.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (minute, left) = self.minute();
        self.verdict(&minute, left)
    }

    /// Counts an answer's bytes and messages.
    ///
    /// # Errors
    /// `GATEWAY_OVER_BUDGET` where it was too much.
    pub(crate) fn spend(&self, bytes: usize, messages: usize) -> Result<(), Error> {
        let (mut minute, left) = self.minute();
        minute.bytes = minute.bytes.saturating_add(bytes as u64);
        minute.messages = minute.messages.saturating_add(messages as u64);
        if let Some(sent) = self.over(&minute) {
            minute.exceeded = Some(sent);
        }
        self.verdict(&minute, left)
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

    fn over(&self, minute: &Minute) -> Option<Sent> {
        if minute.bytes > self.bytes_max {
            return Some(Sent::Bytes);
        }
        (minute.messages > self.messages_max).then_some(Sent::Messages)
    }

    fn verdict(&self, minute: &Minute, left: Duration) -> Result<(), Error> {
        let over = |_| Error::Exhausted { reason: Reason::GatewayOverBudget, retry_in: left };
        self.over(minute).map(over).map_or(Ok(()), Err)
    }

    /// The present minute, and how long it lasts. A clock that was set back begins another.
    fn minute(&self) -> (MutexGuard<'_, Minute>, Duration) {
        let now = self.clock.now().unix_seconds();
        let number = now.div_euclid(MINUTE_SECONDS);
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
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
        for (bytes, messages, exceeded) in
            [(100, 3, None), (101, 0, Some(Sent::Bytes)), (0, 4, Some(Sent::Messages))]
        {
            assert_eq!(budget.spend(bytes, messages).is_err(), exceeded.is_some());
            assert_eq!(budget.check().is_err(), exceeded.is_some());
            assert_eq!(budget.exceeded(), exceeded);
            clock.advance(Duration::from_mins(1));
            assert!(budget.check().is_ok());
            assert_eq!(budget.exceeded(), exceeded, "until it is told of");
            exceeded.into_iter().for_each(|sent| budget.told(sent));
            assert_eq!(budget.exceeded(), None);
        }
    }
}
