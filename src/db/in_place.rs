//! Runs SQLite on the threads that poll the calls.
//!
//! SQLite is a library, and most of its statements take less time than passing them to another thread and waking the
//! caller afterwards. They run on a worker of the main runtime, which first passes its other tasks to another thread.
//!
//! Invariants
//! - a slow statement, or a slow disk, delays only the task that waits for it;
//! - a transaction leaves the runtime once, not once for each statement;
//! - a runtime with a single thread is never blocked: a statement fails there.

use std::error::Error;
use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll};

use diesel_async::sync_connection_wrapper::SpawnBlocking;
use futures_util::future::BoxFuture;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Runs the statements of an SQLite connection before their futures are returned.
#[derive(Debug)]
pub struct RunInPlace;

impl SpawnBlocking for RunInPlace {
    fn spawn_blocking<'a, R>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync + 'static>>>
    where
        R: Send + 'static,
    {
        let done: Result<R, Box<dyn Error + Send + Sync + 'static>> = if may_block() {
            Ok(block_in_place(task))
        } else {
            Err("SQLite is used on the main runtime only".into())
        };
        Box::pin(ready(done))
    }

    fn get_runtime() -> Self {
        Self
    }
}

/// Polls a future in place: its statements do not leave the runtime again.
///
/// If it waits for something else, the runtime gets its thread back, and the future can be dropped.
pub(super) struct InPlace<F>(Pin<Box<F>>);

impl<F> InPlace<F> {
    pub(super) fn new(future: F) -> Self {
        Self(Box::pin(future))
    }
}

impl<F: Future> Future for InPlace<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.get_mut().0.as_mut();
        if may_block() { block_in_place(|| future.poll(cx)) } else { future.poll(cx) }
    }
}

/// Returns whether this thread may be blocked: not if it is the only one of its runtime.
pub(crate) fn may_block() -> bool {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    !matches!(flavor, Ok(RuntimeFlavor::CurrentThread))
}
