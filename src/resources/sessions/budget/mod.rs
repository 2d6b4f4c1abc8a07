//! Budgets of failed logins: per account and address, per address, and per account.
//!
//! Invariants
//! - budgets are stored in the database, so that replicas agree, under keyed tags that reveal neither address nor
//!   account;
//! - an attempt is charged before the password is verified and refunded if it was correct, so that concurrent attempts
//!   cannot exceed the budget;
//! - over the budget, each failure makes the wait longer, up to a bound, and failures decay with time;
//! - an attacker cannot lock an account for all addresses: an exhausted account budget only reduces the free attempts
//!   of addresses that the account has never logged in from, and each of those still has one.

pub mod store;

use std::net::IpAddr;
use std::time::Duration;

use crate::access::authn::hash_turns::HashCaller;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::UserId;
use crate::error::{Error, Reason};
use crate::net::guard::accounting_address;
use crate::seal::TagKey;

/// How long an address with a successful login is remembered.
pub const ADDRESS_KNOWN: Duration = Duration::from_hours(90 * 24);
/// Maximum number of remembered addresses per user.
pub const ADDRESSES_MAX: i64 = 32;

/// Time in which failures decay to half.
const HALF_LIFE: Duration = Duration::from_mins(10);
/// First wait; each further failure doubles it.
const WAIT_FIRST: Duration = Duration::from_secs(2);
/// Longest wait.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// Failures of one address at one account before it must wait.
const FREE_OF_PAIR: i64 = 5;
/// The same for an unknown address at an account that is under attack.
const FREE_OF_STRANGER: i64 = 1;
/// Failures of one address at all accounts before it must wait: many people may share the address of an office.
const FREE_OF_ADDRESS: i64 = 30;
/// Failures at one account from all addresses before it counts as under attack.
const FREE_OF_ACCOUNT: i64 = 50;
/// Below this level, a budget counts as empty and is deleted.
const EMPTY_BELOW_MILLI: i64 = 50;
const MILLI: i64 = 1_000;

/// Level of failures at the time of the last count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Thousandths of a failure.
    pub milli: i64,
    /// Time of the last count.
    pub counted_at: Timestamp,
}

impl Level {
    /// Returns the level that is left after decay, in thousandths. No I/O.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "thousandths of a few thousand failures"
    )]
    pub fn milli_at(self, now: Timestamp) -> i64 {
        let half_lives = now.since(self.counted_at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        (self.milli as f64 * (-half_lives).exp2()) as i64
    }

    /// Returns how long an attempt must wait if `free` failures are free; `None` if it need not wait. No I/O.
    #[must_use]
    pub fn wait(self, free: i64, now: Timestamp) -> Option<Duration> {
        // Rounded to whole failures, since those of a few seconds ago have decayed a little.
        let over = (self.milli - free * MILLI + MILLI / 2).div_euclid(MILLI);
        let doubled = u32::try_from(over).ok()?.min(16);
        let wait = WAIT_FIRST.saturating_mul(1 << doubled).min(WAIT_MAX);
        let left = self.counted_at.plus(wait).since(now);
        (!left.is_zero()).then_some(left)
    }

    fn charge(self, now: Timestamp) -> Self {
        Self { milli: self.milli_at(now) + MILLI, counted_at: now }
    }

    fn refund(self) -> Self {
        // `counted_at` is unchanged, so that a wait that has passed is not required again.
        Self { milli: (self.milli - MILLI).max(0), ..self }
    }

    /// Returns when the budget counts as empty.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "thousandths of a few thousand failures")]
    pub fn empty_at(self) -> Timestamp {
        let half_lives = (self.milli.max(1) as f64 / EMPTY_BELOW_MILLI as f64).log2().max(0.0);
        self.counted_at.plus(HALF_LIFE.mul_f64(half_lives))
    }
}

/// Key of the tags that failed logins are counted under; the same on every replica.
pub struct BudgetKey(pub TagKey);

impl std::fmt::Debug for BudgetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BudgetKey")
    }
}

/// An admitted and charged attempt.
#[derive(Debug)]
pub struct LoginAttempt {
    account: String,
    address: String,
    pair: String,
    ip: Option<IpAddr>,
    /// Whether the account has logged in from the address before.
    known: bool,
}

impl LoginAttempt {
    fn new(app: &App, email: &str, ip: Option<IpAddr>) -> Self {
        // Unknown client addresses share one budget, so that hiding the address does not give more attempts.
        let address = ip.map(|ip| accounting_address(ip).to_string()).unwrap_or_default();
        let (email, address) = (email.as_bytes(), address.as_bytes());
        let tag = |kind: &str, parts: &[&[u8]]| {
            format!("{kind}:{}", app.part::<BudgetKey>().0.tag(parts))
        };
        Self {
            account: tag("account", &[email]),
            address: tag("address", &[address]),
            pair: tag("pair", &[email, address]),
            ip,
            known: false,
        }
    }

    /// Returns whose turn the verification of the password is.
    #[must_use]
    pub fn hash_caller(&self) -> HashCaller {
        if self.known { HashCaller::familiar(self.ip) } else { HashCaller::stranger(self.ip) }
    }
}

/// Admits and charges an attempt, before anything is read that could reveal whether the account exists.
///
/// # Errors
/// `RATE_LIMITED` with the remaining wait.
pub async fn admit(
    app: &App,
    email: &str,
    user: Option<UserId>,
    ip: Option<IpAddr>,
) -> Result<LoginAttempt, Error> {
    let mut attempt = LoginAttempt::new(app, email, ip);
    let now = app.clock.now();
    attempt.known = app
        .db
        .transaction(async |conn| {
            // Always locked in the same order, account, address, pair, so that two attempts cannot deadlock.
            let account = store::lock_level(conn, &attempt.account, None, now).await?;
            let address = store::lock_level(conn, &attempt.address, None, now).await?;
            let pair = store::lock_level(conn, &attempt.pair, Some(&attempt.account), now).await?;
            let known = store::is_known_address(conn, user, &attempt.address, now).await?;
            let attacked = account.milli_at(now) >= FREE_OF_ACCOUNT * MILLI;
            let free = if attacked && !known { FREE_OF_STRANGER } else { FREE_OF_PAIR };
            let wait = pair.wait(free, now).max(address.wait(FREE_OF_ADDRESS, now));
            if let Some(retry_in) = wait {
                return Err(Error::Exhausted { reason: Reason::RateLimited, retry_in });
            }
            store::put(conn, &attempt.account, account.charge(now)).await?;
            store::put(conn, &attempt.address, address.charge(now)).await?;
            store::put(conn, &attempt.pair, pair.charge(now)).await?;
            Ok(known)
        })
        .await?;
    Ok(attempt)
}

/// Records a correct password: refunds the charge, deletes the budget of the pair, and remembers the address for the
/// user.
pub async fn record_success(app: &App, attempt: &LoginAttempt, user: UserId) -> Result<(), Error> {
    let now = app.clock.now();
    app.db
        .transaction(async |conn| {
            refund(conn, attempt, now).await?;
            store::delete(conn, &attempt.pair).await?;
            store::add_known_address(conn, user, &attempt.address, now).await?;
            store::trim_known_addresses(conn, user, ADDRESSES_MAX).await
        })
        .await
}

/// Refunds the charge of an attempt whose password was not verified.
pub async fn refund_attempt(app: &App, attempt: &LoginAttempt) -> Result<(), Error> {
    let now = app.clock.now();
    app.db
        .transaction(async |conn| {
            refund(conn, attempt, now).await?;
            let pair = store::lock_level(conn, &attempt.pair, Some(&attempt.account), now).await?;
            store::put(conn, &attempt.pair, pair.refund()).await
        })
        .await
}

async fn refund(conn: &mut Conn, attempt: &LoginAttempt, now: Timestamp) -> Result<(), Error> {
    for subject in [&attempt.account, &attempt.address] {
        let level = store::lock_level(conn, subject, None, now).await?;
        store::put(conn, subject, level.refund()).await?;
    }
    Ok(())
}

/// Deletes all failures at an account, from all addresses, and returns the number of deleted budgets.
pub async fn clear_account(app: &App, conn: &mut Conn, email: &str) -> Result<usize, Error> {
    let account = LoginAttempt::new(app, email, None).account;
    store::delete_of_account(conn, &account).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_000_000);

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn the_wait_doubles_with_each_failure_up_to_a_maximum() {
        // Failures, seconds until the next attempt.
        let table = [
            (0, None),
            (4, None),
            (5, Some(2)),
            (6, Some(4)),
            (7, Some(8)),
            (13, Some(512)),
            (14, Some(900)),
            (4_000, Some(900)),
        ];
        for (failures, seconds) in table {
            let level = Level { milli: failures * MILLI, counted_at: START };
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(level.wait(FREE_OF_PAIR, START), expected, "{failures}");
        }
    }

    #[test]
    fn the_reported_wait_equals_the_enforced_wait() {
        let level = Level { milli: 8 * MILLI, counted_at: START };
        let told = level.wait(FREE_OF_PAIR, START).unwrap();
        assert_eq!(told, Duration::from_secs(16));
        let almost = START.plus(told.checked_sub(Duration::from_micros(1)).unwrap());
        assert!(level.wait(FREE_OF_PAIR, almost).is_some());
        assert_eq!(level.wait(FREE_OF_PAIR, START.plus(told)), None);
    }

    #[test]
    fn failures_decay_over_time() {
        let level = Level { milli: 8 * MILLI, counted_at: START };
        assert_eq!(level.milli_at(START), 8_000);
        assert_eq!(level.milli_at(after(600)), 4_000);
        assert_eq!(level.milli_at(after(1_800)), 1_000);
        assert!(level.milli_at(level.empty_at()) <= EMPTY_BELOW_MILLI);
        assert!(level.milli_at(after(1_200)) > EMPTY_BELOW_MILLI);
        // After the decay, the next failure counts like the first.
        assert_eq!(level.charge(after(6_000)).wait(FREE_OF_PAIR, after(6_000)), None);
    }

    #[test]
    fn an_unknown_client_of_an_attacked_account_has_one_free_attempt() {
        let fresh = Level { milli: 0, counted_at: START };
        assert_eq!(fresh.wait(FREE_OF_STRANGER, START), None);
        let once = fresh.charge(START);
        assert_eq!(once.wait(FREE_OF_STRANGER, START), Some(WAIT_FIRST));
        assert_eq!(once.wait(FREE_OF_PAIR, START), None);
    }
}
