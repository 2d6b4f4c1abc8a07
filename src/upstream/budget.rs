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

use crate::access::policy::UpstreamPolicy;
use crate::clock::Clock;
use crate::config::Gateways;
use crate::error::{Error, Reason};

const MINUTE_SECONDS: i64 = 60;

/// A quantity that a gateway sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Bytes of responses.
    Bytes,
    /// Messages of responses: log lines, sandbox events, chunks of output.
    Messages,
    /// Sandboxes in one list.
    Sandboxes,
}

impl Quantity {
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
pub(crate) enum BudgetClass {
    /// Responses whose length callers control: up to the configured limit.
    Bulk,
    /// Calls on a single object: up to twice the configured limit.
    Single,
}

impl BudgetClass {
    /// Returns the share that the responses of a proxied method use.
    pub(crate) fn for_method(guard: Option<&UpstreamPolicy>) -> Self {
        if guard.is_some_and(|guard| guard.bulk) { Self::Bulk } else { Self::Single }
    }

    fn factor(self) -> u64 {
        match self {
            Self::Bulk => 1,
            Self::Single => 2,
        }
    }
}

/// Usage in the current minute.
#[derive(Debug, Default)]
struct MinuteUsage {
    number: i64,
    bytes: u64,
    messages: u64,
    exceeded: Option<Quantity>,
}

/// The budget of one gateway.
#[derive(Debug)]
pub struct Budget {
    clock: Clock,
    bytes_max: u64,
    messages_max: u64,
    sandboxes_max: u32,
    minute: Mutex<MinuteUsage>,
}

impl Budget {
    /// Creates the configured budget with nothing used.
    #[must_use]
    pub fn new(config: &Gateways, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            bytes_max: config.bytes_per_minute,
            messages_max: config.messages_per_minute,
            sandboxes_max: config.sandboxes_max,
            minute: Mutex::default(),
        })
    }

    /// Returns the limit per minute, or per list for sandboxes.
    #[must_use]
    pub fn limit(&self, quantity: Quantity) -> u64 {
        match quantity {
            Quantity::Bytes => self.bytes_max,
            Quantity::Messages => self.messages_max,
            Quantity::Sandboxes => self.sandboxes_max.into(),
        }
    }

    /// Returns the maximum number of sandboxes that are listed (T20).
    pub(crate) fn sandboxes_max(&self) -> usize {
        usize::try_from(self.sandboxes_max).unwrap_or(usize::MAX)
    }

    /// Checks whether more may be read.
    ///
    /// # Errors
    /// `GATEWAY_OVER_BUDGET` until the minute ends.
    pub(crate) fn check(&self, class: BudgetClass) -> Result<(), Error> {
        let (minute, time_left) = self.minute();
        self.check_usage(&minute, class, time_left)
    }

    /// Counts the bytes and messages of a response.
    ///
    /// # Errors
    /// `GATEWAY_OVER_BUDGET` if the limit is exceeded.
    pub(crate) fn spend(
        &self,
        bytes: usize,
        messages: usize,
        class: BudgetClass,
    ) -> Result<(), Error> {
        let (mut minute, time_left) = self.minute();
        minute.bytes = minute.bytes.saturating_add(bytes as u64);
        minute.messages = minute.messages.saturating_add(messages as u64);
        if let Some(quantity) = self.exceeded_limit(&minute, BudgetClass::Bulk) {
            minute.exceeded = Some(quantity);
        }
        self.check_usage(&minute, class, time_left)
    }

    /// Records that a list had more sandboxes than the limit.
    pub(crate) fn record_too_many_sandboxes(&self) {
        self.minute().0.exceeded = Some(Quantity::Sandboxes);
    }

    /// Records that sandboxes write more log lines than the limit of messages. Nothing is rejected: the follower of the
    /// gateway reads a bounded number of them.
    pub(crate) fn record_too_many_lines(&self) {
        self.minute().0.exceeded = Some(Quantity::Messages);
    }

    /// Returns the exceeded limit, or `None` if none was exceeded or it was already reported.
    pub(crate) fn exceeded(&self) -> Option<Quantity> {
        self.minute().0.exceeded
    }

    /// Clears an exceeded limit after it was reported.
    pub(crate) fn clear_exceeded(&self, quantity: Quantity) {
        self.minute().0.exceeded.take_if(|exceeded| *exceeded == quantity);
    }

    fn exceeded_limit(&self, minute: &MinuteUsage, class: BudgetClass) -> Option<Quantity> {
        if minute.bytes > self.bytes_max.saturating_mul(class.factor()) {
            return Some(Quantity::Bytes);
        }
        let messages_max = self.messages_max.saturating_mul(class.factor());
        (minute.messages > messages_max).then_some(Quantity::Messages)
    }

    fn check_usage(
        &self,
        minute: &MinuteUsage,
        class: BudgetClass,
        time_left: Duration,
    ) -> Result<(), Error> {
        let over = |_| Error::Exhausted { reason: Reason::GatewayOverBudget, retry_in: time_left };
        self.exceeded_limit(minute, class).map(over).map_or(Ok(()), Err)
    }

    /// Returns the current minute and the time until it ends. Starts a new minute if the clock was set back.
    fn minute(&self) -> (MutexGuard<'_, MinuteUsage>, Duration) {
        let now = self.clock.now().unix_seconds();
        let number = now.div_euclid(MINUTE_SECONDS);
        let mut minute = self.minute.lock();
        if minute.number != number {
            *minute = MinuteUsage { number, exceeded: minute.exceeded, ..MinuteUsage::default() };
        }
        let time_left = MINUTE_SECONDS - now.rem_euclid(MINUTE_SECONDS);
        (minute, Duration::from_secs(time_left.unsigned_abs()))
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
        let (list, stop) = (BudgetClass::Bulk, BudgetClass::Single);
        for (bytes, messages, exceeded) in
            [(100, 3, None), (101, 0, Some(Quantity::Bytes)), (0, 4, Some(Quantity::Messages))]
        {
            assert_eq!(budget.spend(bytes, messages, list).is_err(), exceeded.is_some());
            assert_eq!(budget.check(list).is_err(), exceeded.is_some());
            assert!(budget.check(stop).is_ok(), "lists leave as much again to it");
            assert_eq!(budget.exceeded(), exceeded);
            clock.advance(Duration::from_mins(1));
            assert!(budget.check(list).is_ok());
            assert_eq!(budget.exceeded(), exceeded, "until the excess is reported");
            if let Some(quantity) = exceeded {
                budget.clear_exceeded(quantity);
            }
            assert_eq!(budget.exceeded(), None);
        }
        assert!(budget.spend(200, 0, stop).is_ok());
        assert!(budget.spend(1, 0, stop).is_err(), "which has an end too");
    }
}
