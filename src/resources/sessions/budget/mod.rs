//! Budgets of failed logins: by account and address together, by address, and by account.
//!
//! Invariants
//! - they are kept in the database, so that replicas agree, under tags that tell neither address nor account;
//! - a try is charged before the password is looked at and given back when it was right, so that tries that come
//!   together don't pass together;
//! - what is over the budget waits longer each time, up to a bound, and failures fade with time;
//! - nobody can lock an account out for everybody: the account's own budget only takes the free tries from addresses
//!   that it was never used from, and each of those keeps its first one.

pub mod store;

use std::net::IpAddr;
use std::time::Duration;

use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::UserId;
use crate::error::{Error, Reason};
use crate::net::guard::host_of;
use crate::seal::TagKey;

/// How long an address from which a login succeeded is remembered.
pub const ADDRESS_KNOWN: Duration = Duration::from_hours(90 * 24);
/// Addresses that are remembered of a user.
pub const ADDRESSES_MAX: i64 = 32;

/// Failures fade to half in this time.
const HALF_LIFE: Duration = Duration::from_mins(10);
/// The first wait; each further failure doubles it.
const WAIT_FIRST: Duration = Duration::from_secs(2);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// Failures of one address at one account before it waits.
const FREE_OF_PAIR: i64 = 5;
/// The same, where the account is under attack and the address is not one of its own.
const FREE_OF_STRANGER: i64 = 1;
/// Failures of one address at any account before it waits: an office behind one address mistypes more than a person.
const FREE_OF_ADDRESS: i64 = 30;
/// Failures at one account from anywhere before it counts as under attack.
const FREE_OF_ACCOUNT: i64 = 50;
/// Below this a budget is as good as new and is forgotten.
const FORGOTTEN_MILLI: i64 = 50;
const MILLI: i64 = 1_000;

/// Failures, in thousandths, as they were when they were last counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Thousandths of a failure.
    pub milli: i64,
    /// When that was.
    pub counted_at: Timestamp,
}

impl Level {
    /// What is left of it. Pure.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "thousandths of a few thousand failures"
    )]
    pub fn at(self, now: Timestamp) -> i64 {
        let half_lives = now.since(self.counted_at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        (self.milli as f64 * (-half_lives).exp2()) as i64
    }

    /// How long a try must still wait where `free` failures are free. Pure.
    #[must_use]
    pub fn wait(self, free: i64, now: Timestamp) -> Option<Duration> {
        // To the nearest whole failure: those of a few seconds ago have faded a little.
        let over = (self.milli - free * MILLI + MILLI / 2).div_euclid(MILLI);
        let doubled = u32::try_from(over).ok()?.min(16);
        let wait = WAIT_FIRST.saturating_mul(1 << doubled).min(WAIT_MAX);
        let left = self.counted_at.plus(wait).since(now);
        (!left.is_zero()).then_some(left)
    }

    fn charged(self, now: Timestamp) -> Self {
        Self { milli: self.at(now) + MILLI, counted_at: now }
    }

    fn given_back(self) -> Self {
        // The time stays: what was waited for before the right password need not be waited for again.
        Self { milli: (self.milli - MILLI).max(0), ..self }
    }

    /// When it is as good as new.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "thousandths of a few thousand failures")]
    pub fn forget_at(self) -> Timestamp {
        let half_lives = (self.milli.max(1) as f64 / FORGOTTEN_MILLI as f64).log2().max(0.0);
        self.counted_at.plus(HALF_LIFE.mul_f64(half_lives))
    }
}

/// Tags what failed logins are counted under; the same key on every replica.
pub struct BudgetKey(pub TagKey);

impl std::fmt::Debug for BudgetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BudgetKey")
    }
}

/// A try that was let through and charged.
#[derive(Debug)]
pub struct Try {
    account: String,
    address: String,
    pair: String,
}

impl Try {
    fn of(app: &App, email: &str, ip: Option<IpAddr>) -> Self {
        // The same text for an address that is not known: nobody gets more tries by hiding it.
        let address = ip.map(|ip| host_of(ip).to_string()).unwrap_or_default();
        let (email, address) = (email.as_bytes(), address.as_bytes());
        let tag = |kind: &str, parts: &[&[u8]]| {
            format!("{kind}:{}", app.part::<BudgetKey>().0.tag(parts))
        };
        Self {
            account: tag("account", &[email]),
            address: tag("address", &[address]),
            pair: tag("pair", &[email, address]),
        }
    }
}

/// Lets a try through and charges it, before anything is looked at that could tell whether there is such an account.
///
/// # Errors
/// `RATE_LIMITED` with the time that is left to wait.
pub async fn admit(
    app: &App,
    email: &str,
    user: Option<UserId>,
    ip: Option<IpAddr>,
) -> Result<Try, Error> {
    let tried = Try::of(app, email, ip);
    let now = app.clock.now();
    app.db
        .transaction(async |conn| {
            // In the order of their tags' first letters, always: two tries never wait for each other.
            let account = store::locked(conn, &tried.account, None, now).await?;
            let address = store::locked(conn, &tried.address, None, now).await?;
            let pair = store::locked(conn, &tried.pair, Some(&tried.account), now).await?;
            let known = store::is_known(conn, user, &tried.address, now).await?;
            let attacked = account.at(now) >= FREE_OF_ACCOUNT * MILLI;
            let free = if attacked && !known { FREE_OF_STRANGER } else { FREE_OF_PAIR };
            let wait = pair.wait(free, now).max(address.wait(FREE_OF_ADDRESS, now));
            if let Some(retry_in) = wait {
                return Err(Error::Exhausted { reason: Reason::RateLimited, retry_in });
            }
            store::put(conn, &tried.account, account.charged(now)).await?;
            store::put(conn, &tried.address, address.charged(now)).await?;
            store::put(conn, &tried.pair, pair.charged(now)).await
        })
        .await?;
    Ok(tried)
}

/// The password was right: the charge is given back, the pair starts anew, and the address is one of the account's.
pub async fn succeeded(app: &App, tried: &Try, user: UserId) -> Result<(), Error> {
    let now = app.clock.now();
    app.db
        .transaction(async |conn| {
            give_back(conn, tried, now).await?;
            store::forget(conn, &tried.pair).await?;
            store::know(conn, user, &tried.address, now).await?;
            store::know_no_more(conn, user, ADDRESSES_MAX).await
        })
        .await
}

/// The password was not looked at: the charge is given back.
pub async fn not_tried(app: &App, tried: &Try) -> Result<(), Error> {
    let now = app.clock.now();
    app.db
        .transaction(async |conn| {
            give_back(conn, tried, now).await?;
            let pair = store::locked(conn, &tried.pair, Some(&tried.account), now).await?;
            store::put(conn, &tried.pair, pair.given_back()).await
        })
        .await
}

async fn give_back(conn: &mut Conn, tried: &Try, now: Timestamp) -> Result<(), Error> {
    for subject in [&tried.account, &tried.address] {
        let level = store::locked(conn, subject, None, now).await?;
        store::put(conn, subject, level.given_back()).await?;
    }
    Ok(())
}

/// Forgets every failure at an account, wherever it came from.
pub async fn forgive(app: &App, conn: &mut Conn, email: &str) -> Result<usize, Error> {
    let account = Try::of(app, email, None).account;
    store::forget_account(conn, &account).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_000_000);

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_over_the_budget_waits_longer_each_time_up_to_a_bound() {
        // failures, seconds until the next try
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
    fn wp19_what_is_told_to_wait_is_what_must_be_waited() {
        let level = Level { milli: 8 * MILLI, counted_at: START };
        let told = level.wait(FREE_OF_PAIR, START).unwrap();
        assert_eq!(told, Duration::from_secs(16));
        let almost = START.plus(told.checked_sub(Duration::from_micros(1)).unwrap());
        assert!(level.wait(FREE_OF_PAIR, almost).is_some());
        assert_eq!(level.wait(FREE_OF_PAIR, START.plus(told)), None);
    }

    #[test]
    fn failures_fade() {
        let level = Level { milli: 8 * MILLI, counted_at: START };
        assert_eq!(level.at(START), 8_000);
        assert_eq!(level.at(after(600)), 4_000);
        assert_eq!(level.at(after(1_800)), 1_000);
        assert!(level.at(level.forget_at()) <= FORGOTTEN_MILLI);
        assert!(level.at(after(1_200)) > FORGOTTEN_MILLI);
        // One more after they have faded is the first again.
        assert_eq!(level.charged(after(6_000)).wait(FREE_OF_PAIR, after(6_000)), None);
    }

    #[test]
    fn a_stranger_at_an_attacked_account_has_one_free_try() {
        let fresh = Level { milli: 0, counted_at: START };
        assert_eq!(fresh.wait(FREE_OF_STRANGER, START), None);
        let once = fresh.charged(START);
        assert_eq!(once.wait(FREE_OF_STRANGER, START), Some(WAIT_FIRST));
        assert_eq!(once.wait(FREE_OF_PAIR, START), None);
    }
}
