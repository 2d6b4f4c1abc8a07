//! Turns for the first ticks of jobs on PostgreSQL. When a process starts, all jobs acquire their leases and run at
//! once.
//!
//! Invariants
//! - the jobs together need few connections to the database then. A pool opens a connection for each caller that finds
//!   none, and a connection that is opened for one statement costs more than the statement;
//! - a database that does not respond, or a tick that takes long, delays no job by more than [`WAIT_MAX`].

use std::pin::pin;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::app::App;
use crate::db::Engine;

/// Number of jobs that have a turn at a time. Their ticks use the same connections one after the other, whose processes
/// have then loaded the tables.
const TURNS: usize = 1;
/// Time that a job waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Time for which a tick keeps the turn: far more than a tick needs that finds nothing to do.
const TICK_MAX: Duration = Duration::from_millis(100);

/// The turns of the jobs of this process.
#[derive(Debug)]
pub struct TickTurns(Semaphore);

impl Default for TickTurns {
    fn default() -> Self {
        Self(Semaphore::new(TURNS))
    }
}

impl TickTurns {
    async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(WAIT_MAX, self.0.acquire()).await.ok()?.ok()
    }
}

/// Waits for a turn, which ends when the result is dropped. Returns `None` if no turn is free in time, and on SQLite,
/// which has one connection that writes: the transactions that wait for it share a commit.
pub(super) async fn tick_turn(app: &App) -> Option<SemaphorePermit<'_>> {
    match app.db.engine() {
        Engine::Sqlite => None,
        Engine::Postgres => app.part::<TickTurns>().wait().await,
    }
}

/// Runs the first tick of a job in its turn. A tick that takes longer, for example because it calls gateways, continues
/// without the turn.
pub(super) async fn in_turn<T>(
    turn: Option<SemaphorePermit<'_>>,
    tick: impl Future<Output = T>,
) -> T {
    let mut tick = pin!(tick);
    if turn.is_some()
        && let Ok(done) = tokio::time::timeout(TICK_MAX, &mut tick).await
    {
        return done;
    }
    drop(turn);
    tick.await
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_job_gets_its_turn_when_another_one_ends() {
        let turns = TickTurns::default();
        let mut held = Vec::new();
        for _ in 0..TURNS {
            held.push(turns.wait().await.unwrap());
        }
        let mut next = pin!(turns.wait());
        assert!(next.as_mut().now_or_never().is_none());
        drop(held.pop());
        assert!(next.await.is_some());
    }

    #[tokio::test]
    async fn a_tick_ends_in_its_turn_or_continues_without_it() {
        let turns = TickTurns::default();
        let held = turns.wait().await;
        assert_eq!(in_turn(held, async { turns.0.available_permits() }).await, TURNS - 1);
        let held = turns.wait().await;
        let all = u32::try_from(TURNS).unwrap();
        assert!(in_turn(held, turns.0.acquire_many(all)).await.is_ok());
    }
}
