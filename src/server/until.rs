//! Conditions that end one of Shoreguard's own calls from outside: its deadline, for a stream the drain, and for a call
//! with a credential the loss of the caller's access.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use crate::access::live::{EndReason, LiveStream};
use crate::app::App;
use crate::error::Error;
use crate::net::deadline;

/// Completes with the error that ends the call.
pub(super) struct EndCondition(Pin<Box<dyn Future<Output = Error> + Send>>);

impl EndCondition {
    /// Waits for the deadline and, if `after_stop` is set, for that time after the start of a drain.
    pub(super) fn new(app: &App, deadline: Option<Instant>, after_stop: Option<Duration>) -> Self {
        let stop = app.stop.clone();
        let timed_out = async move {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let drained = async move {
            match after_stop {
                Some(time) => {
                    stop.cancelled().await;
                    sleep(time).await;
                }
                None => std::future::pending().await,
            }
        };
        Self(Box::pin(async move {
            tokio::select! {
                () = timed_out => deadline::deadline_exceeded(),
                () = drained => EndReason::Draining.into(),
            }
        }))
    }

    /// Also completes when the caller loses access to the stream.
    pub(super) fn or_access_lost(self, live: LiveStream) -> Self {
        let Self(condition) = self;
        Self(Box::pin(async move {
            let ended = live.cancel_token();
            tokio::select! {
                error = condition => error,
                () = ended.cancelled() => live.end_reason().unwrap_or(EndReason::Stale).into(),
            }
        }))
    }
}

impl Future for EndCondition {
    type Output = Error;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Error> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for EndCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndCondition").finish_non_exhaustive()
    }
}
