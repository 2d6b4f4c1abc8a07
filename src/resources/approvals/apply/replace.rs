//! The end of a round whose base has moved, and the beginning of the round that replaces it.
//!
//! Invariant: both are in one transaction, and only if the round is still in the state in which it was compared.

use futures_util::future::BoxFuture;

use super::outcome::{self, Outcome};
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::error::Error;
use crate::resources::approvals::rounds::close::Ending;
use crate::resources::approvals::rounds::{Round, RoundState, store as rounds};
use crate::resources::approvals::wake;
use crate::resources::operations::retry::with_retries;
use crate::resources::operations::{Failure, RunningOperation};
use crate::resources::write_intents::domain as write_intents;

/// The change of a round as it would be reviewed now.
pub(super) trait Successor: Send + Sync {
    /// Ends a round as `ended` says, and opens its successor. Returns whether the successor is approved.
    ///
    /// # Errors
    /// Those of the database; a refusal if there can be no successor.
    fn open<'a>(
        &'a self,
        ctx: &'a Ctx,
        tx: &'a mut Tx<'_>,
        round: &'a mut Round,
        ended: &'a Outcome,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<bool, Error>>;
}

/// Successor of a round, computed again; `None` if no round follows it.
pub(super) type Computed = Result<Option<Box<dyn Successor>>, Error>;

/// Ends a round as superseded, with this reason, and opens its successor.
///
/// # Errors
/// A failure that ends the operation: the gateway cannot be asked, and the round waits.
pub(super) async fn supersede(
    running: &RunningOperation,
    round: &Round,
    why: &str,
    next: Computed,
) -> Result<(), Failure> {
    let next = match next {
        Ok(next) => next,
        // A write that began must not wait for its successor.
        Err(_) if round.state == RoundState::Sending => None,
        Err(error) => return Err(error.into()),
    };
    let ended = Outcome::Ended(Ending::Superseded, why.to_owned());
    if let Some(next) = next.as_deref() {
        match with_retries(running, || replace(running, round, next, &ended)).await {
            // Such as a rule that this version cannot read: there is no successor then.
            Err(error) if error.is_refusal() && !matches!(error, Error::Conflict { .. }) => {}
            replaced => return Ok(replaced?),
        }
    }
    Ok(outcome::store(running, (round.id, round.state), &ended).await?)
}

async fn replace(
    running: &RunningOperation,
    round: &Round,
    next: &dyn Successor,
    ended: &Outcome,
) -> Result<(), Error> {
    let ctx = running.ctx();
    let (operation, is_approved) = ctx
        .record_change(async |tx| {
            let operation = running.step_in(tx, None).await?;
            write_intents::lock_exclusive(tx, round.place.gateway.id).await?;
            let now = ctx.db().now(tx).await?;
            let stored = rounds::by_id(tx, round.id).await?;
            let Some(mut stored) = stored.filter(|stored| stored.state == round.state) else {
                return Ok((operation, false));
            };
            let is_approved = next.open(ctx, tx, &mut stored, ended, now).await?;
            Ok((operation, is_approved))
        })
        .await?;
    running.notify_committed(operation);
    if is_approved {
        wake(ctx.app());
    }
    Ok(())
}
