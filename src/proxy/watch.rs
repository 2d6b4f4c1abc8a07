//! What ends a call from our side: its deadline, and the loss of the right to it.
//!
//! A stream is registered from the start, a unary call only once it has waited for a while: most are over by then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::access::live::{Ended, LiveStream};
use crate::access::principal::Caller;
use crate::access::standing::Guard;
use crate::access::standing::{Place, Standing};
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::net::deadline::late;
use crate::net::taking::Taking;
use crate::role::Role;

/// How long a unary call waits before it is watched.
const WATCHED_AFTER: Duration = Duration::from_millis(500);

/// What a wait without an end is cut to: the timer must be at some time.
const FAR: Duration = Duration::from_hours(24);

/// How long a call that must end may go without its body being polled, before its stream is reset. A caller that reads
/// gets a status within that time.
const UNPOLLED_TIME: Duration = Duration::from_millis(250);

/// Watches one call.
pub(crate) struct Watch {
    app: Arc<App>,
    standing: Standing,
    deadline: Option<Instant>,
    watched_from: Instant,
    live: Option<Registered>,
    timer: Option<Pin<Box<Sleep>>>,
}

struct Registered {
    stream: LiveStream,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Watch {
    /// For a caller that was let in with `least`.
    pub(crate) fn new(
        app: &Arc<App>,
        caller: Caller,
        gateway: GatewayId,
        least: Role,
        deadline: Option<std::time::Instant>,
    ) -> Self {
        Self {
            app: Arc::clone(app),
            standing: Standing::new(caller, Place::On(gateway), least),
            deadline: deadline.map(Instant::from_std),
            watched_from: Instant::now() + WATCHED_AFTER,
            live: None,
            timer: None,
        }
    }

    /// What the call has turned out to need, if it is more.
    pub(crate) fn needs(&mut self, role: Role) {
        self.standing.needs(role);
    }

    /// Registers it. A drain ends it at once where its answer streams.
    pub(crate) fn register(&mut self, streams: bool) {
        let stream = self.app.live.enter_as(self.standing.clone());
        let stream = if streams { stream.ending_at_drain() } else { stream };
        let ended = Box::pin(stream.ended().cancelled_owned());
        self.live = Some(Registered { stream, ended });
    }

    /// When the timer is next needed.
    pub(crate) fn next(&self) -> Instant {
        let watched = if self.live.is_none() { self.watched_from } else { Instant::now() + FAR };
        self.deadline.map_or(watched, |deadline| deadline.min(watched))
    }

    /// Why the call must end, once it must; with a timer of the waiting function's own.
    pub(crate) fn poll_with(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Error> {
        loop {
            if let Some(live) = &mut self.live
                && live.ended.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(live.stream.why().unwrap_or(Ended::Stale).into());
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return Poll::Ready(late());
            }
            if self.live.is_none() && now >= self.watched_from {
                self.register(false);
            }
            let next = self.next();
            timer.as_mut().reset(next);
        }
    }

    /// The same, with a timer that is made when it is first needed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let next = self.next();
        let mut timer = self.timer.take().unwrap_or_else(|| Box::pin(sleep_until(next)));
        let polled = self.poll_with(timer.as_mut(), cx);
        self.timer = Some(timer);
        polled
    }

    /// Returns why the call must end now, if it must. Asked before each part of an answer: where the next part is always
    /// ready, nothing else would ask.
    pub(crate) fn over(&self) -> Option<Error> {
        if let Some(why) = self.live.as_ref().and_then(|live| live.stream.why()) {
            return Some(why.into());
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Some(late());
        }
        self.recheck().err()
    }

    /// Waits until a registered call must end, and resets its stream if it is still there [`UNPOLLED_TIME`] later: the
    /// body of an answer that the caller does not take is never polled, so it can't end itself.
    pub(crate) fn reset_unpolled(
        &self,
        taking: Arc<Taking>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let ended = self.live.as_ref().map(|live| live.stream.ended());
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
                () = passed(deadline) => {}
            }
            sleep(UNPOLLED_TIME).await;
            taking.give_up();
        }
    }

    /// Checks whether the caller may still do what it was let in for: a request may take long to arrive.
    pub(crate) fn recheck(&self) -> Result<(), Error> {
        self.standing.check(&self.app.snapshot).map_err(Into::into)
    }

    /// Returns the same check for the body of the request, which may be sent by a task of its own.
    pub(crate) fn guard(&self) -> Guard {
        Guard::new(&self.app.snapshot, self.standing.clone())
    }

    /// Waits for something else no longer than the call may last, and no longer than the right to it where it is
    /// registered.
    pub(crate) async fn within<T>(&self, f: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = f => Ok(done),
            why = self.ended() => Err(why.into()),
            () = passed(self.deadline) => Err(late()),
        }
    }

    async fn ended(&self) -> Ended {
        let Some(live) = &self.live else { return std::future::pending().await };
        live.stream.ended().cancelled().await;
        live.stream.why().unwrap_or(Ended::Stale)
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
