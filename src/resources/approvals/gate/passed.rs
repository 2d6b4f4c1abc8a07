//! A call that has passed the gate: until when it may be sent, and its intent.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::warn;

use crate::clock::Clock;
use crate::ctx::Ctx;
use crate::db::types::WriteIntentId;
use crate::error::Error;
use crate::openshell::gateway::CALL_TIME;
use crate::resources::write_intents::domain as write_intents;

/// Additional time until an intent is over: the call begins after its transaction.
pub(super) const SLACK: Duration = Duration::from_secs(5);

/// A call that has passed the gate, and must be sent now.
#[derive(Debug)]
#[must_use = "its intent is deleted by `finish`"]
pub struct Passed {
    pub(super) intent: Option<WriteIntentId>,
    /// Time of the clock that includes sleep, until which the call may be in progress.
    pub until: Duration,
    pub(super) clock: Clock,
    /// Whether a rule is in force: what is sent is Shoreguard's own encoding of what was checked.
    pub is_governed: bool,
    /// Whether the sandbox that is created gets its first policy from this server.
    pub needs_initial_policy: bool,
}

impl Passed {
    /// Returns the time that the call may still take.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` if it has passed: nothing may be sent.
    pub fn time_left(&self) -> Result<Duration, Error> {
        let left = self.until.saturating_sub(self.clock.since_boot());
        if left.is_zero() {
            let why = "the time for the call passed while its intent was stored".to_owned();
            return Err(Error::DeadlineExceeded { why });
        }
        Ok(left)
    }
}

/// Renews the intent of a call that is still waiting for its response. A failure is only logged: the call was sent.
#[must_use]
pub fn renew<'a>(ctx: &'a Ctx, passed: &'a Passed) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let Some(intent) = passed.intent else { return };
        let renewed = ctx
            .record_change(async |tx| {
                let until = ctx.db().now(tx).await?.plus(CALL_TIME + SLACK);
                write_intents::renew(tx, intent, until).await
            })
            .await;
        if let Err(error) = renewed {
            warn!(error = &error as &dyn std::error::Error, "a write intent was not renewed");
        }
    })
}

/// Deletes the intent of a call whose outcome is known. A failure is only logged: the gateway has acted, and the intent
/// is over at its deadline.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "what has passed is used once")]
pub fn finish(ctx: &Ctx, passed: Passed) -> BoxFuture<'_, ()> {
    let Passed { intent, .. } = passed;
    Box::pin(async move {
        let Some(intent) = intent.filter(|_| !ctx.unanswered().is_set()) else { return };
        let deleted = ctx.record_change(async |tx| write_intents::delete(tx, intent).await).await;
        if let Err(error) = deleted {
            warn!(error = &error as &dyn std::error::Error, "a write intent was not deleted yet");
        }
    })
}
