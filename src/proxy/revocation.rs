//! Ends a call on Shoreguard's side: at its deadline, or when its caller loses the permission.
//!
//! A stream is registered from the start, a unary call only after it has waited for a while: most have ended by then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::access::live::{EndReason, LiveStream};
use crate::access::principal::Caller;
use crate::access::standing::AccessGuard;
use crate::access::standing::{AccessCheck, RoleScope};
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::net::deadline::deadline_exceeded;
use crate::net::taking::ReadTracker;
use crate::role::Role;

/// How long a unary call waits before it is registered.
const WATCHED_AFTER: Duration = Duration::from_millis(500);

/// Used as the time of an unlimited wait, since the timer needs one.
const FAR: Duration = Duration::from_hours(24);

/// How long a call that must end may go without its body being polled, before its stream is reset. A caller that reads
/// gets a status within that time.
const UNPOLLED_TIME: Duration = Duration::from_millis(250);

/// Deadline and permission of one call.
pub(crate) struct CallWatch {
    app: Arc<App>,
    access_check: AccessCheck,
    deadline: Option<Instant>,
    watched_from: Instant,
    live: Option<RegisteredCall>,
    timer: Option<Pin<Box<Sleep>>>,
}

struct RegisteredCall {
    stream: LiveStream,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl CallWatch {
    /// Creates the watch of a caller that was admitted with the role `min_role`.
    pub(crate) fn new(
        app: &Arc<App>,
        caller: Caller,
        gateway: GatewayId,
        min_role: Role,
        deadline: Option<std::time::Instant>,
    ) -> Self {
        Self {
            app: Arc::clone(app),
            access_check: AccessCheck::new(caller, RoleScope::Gateway(gateway), min_role),
            deadline: deadline.map(Instant::from_std),
            watched_from: Instant::now() + WATCHED_AFTER,
            live: None,
            timer: None,
        }
    }

    /// Raises the required role, if `role` is higher.
    pub(crate) fn require_role(&mut self, role: Role) {
        self.access_check.require_role(role);
    }

    /// Registers the call. A drain ends it at once if its response streams.
    pub(crate) fn register(&mut self, streams: bool) {
        let stream = self.app.live.register_check(self.access_check.clone());
        let stream = if streams { stream.end_at_drain() } else { stream };
        let ended = Box::pin(stream.cancel_token().cancelled_owned());
        self.live = Some(RegisteredCall { stream, ended });
    }

    /// Returns when the timer must fire next.
    pub(crate) fn next_deadline(&self) -> Instant {
        let watched = if self.live.is_none() { self.watched_from } else { Instant::now() + FAR };
        self.deadline.map_or(watched, |deadline| deadline.min(watched))
    }

    /// Returns the reason once the call must end. Uses a timer of the caller.
    pub(crate) fn poll_with_timer(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Error> {
        loop {
            if let Some(live) = &mut self.live
                && live.ended.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(live.stream.end_reason().unwrap_or(EndReason::Stale).into());
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return Poll::Ready(deadline_exceeded());
            }
            if self.live.is_none() && now >= self.watched_from {
                self.register(false);
            }
            let next = self.next_deadline();
            timer.as_mut().reset(next);
        }
    }

    /// As [`CallWatch::poll_with_timer`], with a timer that is created on first use.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let next = self.next_deadline();
        let mut timer = self.timer.take().unwrap_or_else(|| Box::pin(sleep_until(next)));
        let polled = self.poll_with_timer(timer.as_mut(), cx);
        self.timer = Some(timer);
        polled
    }

    /// Returns the reason if the call must end now. Called before each part of a response: if the next part is always
    /// ready, no other check runs.
    pub(crate) fn end_reason(&self) -> Option<Error> {
        if let Some(why) = self.live.as_ref().and_then(|live| live.stream.end_reason()) {
            return Some(why.into());
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Some(deadline_exceeded());
        }
        self.recheck().err()
    }

    /// Waits until a registered call must end, and resets its stream if it still exists [`UNPOLLED_TIME`] later: the
    /// body of a response that the caller does not read is never polled, so it cannot end itself.
    pub(crate) fn reset_unpolled(
        &self,
        read_tracker: Arc<ReadTracker>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let ended = self.live.as_ref().map(|live| live.stream.cancel_token());
        let deadline = self.deadline;
        async move {
            let ended = async {
                match ended {
                    Some(ended) => ended.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ended => {}
                () = wait_until(deadline) => {}
            }
            sleep(UNPOLLED_TIME).await;
            read_tracker.abort();
        }
    }

    /// Checks whether the caller still has the permission with which it was admitted: a request may take long to
    /// arrive.
    pub(crate) fn recheck(&self) -> Result<(), Error> {
        self.access_check.check(&self.app.snapshot).map_err(Into::into)
    }

    /// Returns the same check for the body of the request, which may be sent by a separate task.
    pub(crate) fn guard(&self) -> AccessGuard {
        AccessGuard::new(&self.app.snapshot, self.access_check.clone())
    }

    /// Waits for a future, but not beyond the deadline or, if the call is registered, the loss of the permission.
    pub(crate) async fn within<T>(&self, f: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = f => Ok(done),
            why = self.wait_for_end() => Err(why.into()),
            () = wait_until(self.deadline) => Err(deadline_exceeded()),
        }
    }

    async fn wait_for_end(&self) -> EndReason {
        let Some(live) = &self.live else { return std::future::pending().await };
        live.stream.cancel_token().cancelled().await;
        live.stream.end_reason().unwrap_or(EndReason::Stale)
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
