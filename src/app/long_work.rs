//! Turns at long computations, such as parsing and comparing large policies.
//!
//! A worker of the main runtime that computes for a second would delay all calls that wait for it (T16).
//!
//! Invariants
//! - a long computation runs on a worker that has passed its other tasks to another thread first, and only a limited
//!   number runs at once;
//! - a caller waits before its computation, for a limited time. It holds or waits for a limited number of turns, and
//!   delays others by its share only. A call that is dropped leaves the queue;
//! - a turn is returned when its computation has ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::db::may_block;
use crate::error::{Error, Reason};
use crate::fair::{FairLimit, LimitHolder, LimitShare, RETRY_IN};

/// Maximum input of a short computation, which needs no turn, in bytes.
pub const SHORT_BYTES_MAX: usize = 32 << 10;
/// Long computations that run at once.
pub const RUNNING_MAX: usize = 2;
/// Turns that one caller holds or waits for.
pub const PER_CALLER_MAX: u64 = 4;
/// Turns that all callers hold or wait for.
const TOTAL_MAX: u64 = 64;
/// Longest time that a caller waits for its turn. It holds no connection to the database meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The turns.
#[derive(Debug)]
pub struct LongWork {
    running: Arc<Semaphore>,
    callers: Arc<FairLimit>,
}

impl Default for LongWork {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            callers: FairLimit::new(TOTAL_MAX, PER_CALLER_MAX),
        }
    }
}

/// The right to run one computation.
#[derive(Debug)]
pub struct WorkTurn(Option<(OwnedSemaphorePermit, Option<LimitShare>)>);

impl LongWork {
    /// Waits for the turn of a computation whose input has this number of bytes. A short computation does not wait.
    /// Without a holder, it is work of the server itself, which is limited elsewhere and waits until its turn.
    ///
    /// # Errors
    /// `BUSY` if the holder or all callers have too many turns, or if none is free in time.
    pub async fn turn(&self, holder: Option<LimitHolder>, bytes: usize) -> Result<WorkTurn, Error> {
        if bytes <= SHORT_BYTES_MAX {
            return Ok(WorkTurn(None));
        }
        let busy = || Error::Exhausted { reason: Reason::Busy, retry_in: RETRY_IN };
        let share = holder.map(|holder| self.callers.acquire(holder, 1)).transpose();
        let share = share.map_err(|_| busy())?;
        let permit = Arc::clone(&self.running).acquire_owned();
        let permit = if share.is_some() {
            timeout(WAIT_MAX, permit).await.map_err(|_| busy())?
        } else {
            permit.await
        };
        Ok(WorkTurn(Some((permit.map_err(Error::internal)?, share))))
    }
}

impl WorkTurn {
    /// Runs the computation.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        if self.0.is_some() && may_block() { block_in_place(work) } else { work() }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;

    use futures_util::poll;
    use tokio::task::JoinSet;

    use super::*;
    use crate::access::principal::PrincipalId;
    use crate::db::types::UserId;

    const LONG: usize = SHORT_BYTES_MAX + 1;

    fn user(id: i64) -> LimitHolder {
        LimitHolder::Principal(PrincipalId::User(UserId(id)))
    }

    fn is_busy(result: &Result<WorkTurn, Error>) -> bool {
        matches!(result, Err(Error::Exhausted { reason: Reason::Busy, .. }))
    }

    #[tokio::test]
    async fn t16_a_caller_holds_or_awaits_a_limited_number_of_turns() {
        let turns = LongWork::default();
        let held = [turns.turn(Some(user(1)), LONG).await, turns.turn(Some(user(1)), LONG).await];
        let [first, second] = held.map(Result::unwrap);
        let mut third = pin!(turns.turn(Some(user(1)), LONG));
        let mut fourth = Box::pin(turns.turn(Some(user(1)), LONG));
        assert!(poll!(third.as_mut()).is_pending() && poll!(fourth.as_mut()).is_pending());
        assert!(is_busy(&turns.turn(Some(user(1)), LONG).await));
        // A short computation and another caller are not affected.
        turns.turn(Some(user(1)), SHORT_BYTES_MAX).await.unwrap().run(|| ());
        let mut other = pin!(turns.turn(Some(user(2)), LONG));
        assert!(poll!(other.as_mut()).is_pending());
        // A call that is dropped while it waits leaves the queue.
        drop(fourth);
        assert_eq!(turns.callers.in_use(), 4);
        assert_eq!(first.run(|| 7), 7);
        third.await.unwrap().run(|| ());
        other.await.unwrap().run(|| ());
        second.run(|| ());
        assert_eq!((turns.callers.in_use(), turns.running.available_permits()), (0, RUNNING_MAX));
    }

    #[tokio::test]
    async fn work_of_the_server_waits_for_its_turn_and_has_no_share() {
        let turns = LongWork::default();
        let held = [turns.turn(None, LONG).await, turns.turn(None, LONG).await];
        assert_eq!(turns.callers.in_use(), 0);
        let mut next = pin!(turns.turn(None, LONG));
        assert!(poll!(next.as_mut()).is_pending());
        drop(held);
        next.await.unwrap().run(|| ());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn t16_long_work_does_not_hold_the_only_worker() {
        let (sender, receiver) = mpsc::channel();
        let turns = LongWork::default();
        let turn = turns.turn(Some(user(1)), LONG).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { turn.run(|| receiver.recv_timeout(WAIT_MAX).is_ok()) });
        tasks.spawn(async move { sender.send(()).is_ok() });
        while let Some(done) = tasks.join_next().await {
            assert!(done.unwrap(), "the second task waited for the first");
        }
    }
}
