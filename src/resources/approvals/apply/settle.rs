//! Decides a write by what the gateway has: after an answer, and if the answer was lost.

use std::time::Duration;

use super::draft_found::{self, Reviewed};
use super::fail_points::{self, FailPoint};
use super::found::{self, Found, Wanted, Written};
use super::outcome::{self, Outcome};
use super::{draft_successor, live, successor};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::types::ApprovalRoundId;
use crate::error::{Error, ResourceKind};
use crate::governance::Action;
use crate::openshell::Gateway;
use crate::policy::Policy;
use crate::resources::approvals::rounds::close::Ending;
use crate::resources::approvals::rounds::{Content, Round, RoundState, store as rounds};
use crate::resources::operations::{Failure, FailureCode, RunningOperation};
use crate::resources::write_intents::domain as write_intents;

/// Time after the deadline of a write after which it can no longer arrive.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long a gateway is asked in one operation.
const ASK_TIME: Duration = Duration::from_mins(1);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// A write whose outcome is not stored.
struct OpenWrite {
    round: Round,
    want: Want,
    base_version: u32,
    /// When it can no longer arrive.
    over_at: Timestamp,
}

/// Content of a write.
enum Want {
    /// Writes this policy.
    Policy(Policy),
    /// Decides about a draft.
    Draft(Reviewed),
}

/// Waits until the outcome of a write is certain, and stores it. That it is done is certain at once; anything else
/// is certain only when it can no longer arrive. `answered` is the connection on which it was sent.
///
/// # Errors
/// A failure that ends the operation: the write is not done, or the gateway does not respond. Then the round stays in
/// the state `sending`.
pub async fn settle(
    running: &RunningOperation,
    id: ApprovalRoundId,
    answered: Option<&Gateway>,
) -> Result<(), Failure> {
    let ctx = running.ctx();
    let clock = &ctx.app().clock;
    let Some(write) = read(ctx, id).await? else { return Ok(()) };
    let until = clock.since_boot() + ASK_TIME;
    loop {
        // Before the question: what the gateway has afterwards includes a write that arrived until then.
        let is_over = ctx.db().now(&mut ctx.db().read().await?).await? >= write.over_at;
        if is_over && live::is_removed(ctx.app(), &write.round) {
            let why = "the gateway was unregistered while the policy was written: it is not known \
                       whether it was";
            return end(running, id, Ending::Failed, why).await;
        }
        let asked = look(ctx, &write, answered).await;
        let failure = match asked {
            Ok(Found::Done(written)) => return store_written(running, id, written).await,
            Ok(Found::Moved) if is_over => {
                running.ctx().unanswered().clear();
                let why = "another policy was written to the sandbox at the same time";
                let gateway = live::connect(ctx).await?;
                return match &write.want {
                    Want::Policy(_) => {
                        Box::pin(successor::supersede(running, &gateway, &write.round, why)).await
                    }
                    Want::Draft(_) => {
                        Box::pin(draft_successor::supersede(running, &gateway, &write.round, why))
                            .await
                    }
                };
            }
            Ok(found) if is_over => return store_found(running, id, found).await,
            Err(Error::NotFound { kind: ResourceKind::Sandbox, .. }) if is_over => {
                let why = "the sandbox was deleted while the policy was written";
                return end(running, id, Ending::Failed, why).await;
            }
            Ok(_) => {
                let why = "the gateway did not report whether the policy was written";
                Failure::new(FailureCode::GatewayUnreachable, why)
            }
            Err(error) => error.into(),
        };
        if running.cancel().is_cancelled() {
            return Err(Failure::cancelled());
        }
        if clock.since_boot() >= until {
            return Err(failure);
        }
        clock.sleep(PAUSE).await;
    }
}

async fn read(ctx: &Ctx, id: ApprovalRoundId) -> Result<Option<OpenWrite>, Error> {
    let mut conn = ctx.db().read().await?;
    let round = rounds::by_id(&mut conn, id).await?;
    let Some(round) = round.filter(|round| round.state == RoundState::Sending) else {
        return Ok(None);
    };
    let want = if round.action == Action::PolicyApply {
        let stored = rounds::content(&mut conn, id).await?;
        match Content::decode(round.action, round.generation, &stored)? {
            Content::Policy(content) => Want::Policy(content.candidate),
            Content::Rule(_) | Content::Draft(_) | Content::Undo(_) => {
                return Err(Error::internal("a content that is not a policy is written as one"));
            }
        }
    } else {
        Want::Draft(Reviewed::read(&mut conn, &round).await?)
    };
    let intent = write_intents::of_round(&mut conn, round.place.gateway.id, id).await?;
    let now = ctx.db().now(&mut conn).await?;
    let base_version = intent.as_ref().map_or(round.base_version, |intent| intent.base_version);
    Ok(Some(OpenWrite {
        want,
        base_version: base_version.and_then(|version| u32::try_from(version).ok()).unwrap_or(0),
        // Without an intent nothing was sent.
        over_at: intent.map_or(now, |intent| intent.deadline.plus(GRACE)),
        round,
    }))
}

async fn look(ctx: &Ctx, write: &OpenWrite, answered: Option<&Gateway>) -> Result<Found, Error> {
    let connected;
    let gateway = if let Some(gateway) = answered {
        gateway
    } else {
        connected = live::connect(ctx).await?;
        &connected
    };
    let found = match &write.want {
        Want::Policy(candidate) => look_for_policy(gateway, write, candidate).await?,
        Want::Draft(reviewed) => {
            draft_found::look(gateway, &write.round, reviewed, write.base_version).await?
        }
    };
    if matches!(found, Found::Done(_) | Found::Altered { .. }) {
        gateway.mark_outcome_known();
    }
    Ok(found)
}

async fn look_for_policy(
    gateway: &Gateway,
    write: &OpenWrite,
    candidate: &Policy,
) -> Result<Found, Error> {
    let sandbox = &write.round.place.name;
    let id = gateway.get_sandbox(sandbox).await?.id;
    if write.round.sandbox_id.as_ref().is_some_and(|reviewed| *reviewed != id) {
        return Err(Error::not_found(ResourceKind::Sandbox, &sandbox.name));
    }
    let seen = live::revisions_after(gateway, sandbox, write.base_version, candidate).await?;
    let wanted = Wanted {
        round: &write.round.id.to_string(),
        base_version: write.base_version,
        base: write.round.base_digest.as_deref().filter(|_| write.base_version > 0),
    };
    Ok(found::decide(&wanted, &seen))
}

async fn store_written(
    running: &RunningOperation,
    id: ApprovalRoundId,
    written: Written,
) -> Result<(), Failure> {
    running.ctx().unanswered().clear();
    let written = Outcome::Written(written);
    outcome::store(running, (id, RoundState::Sending), &written).await?;
    fail_points::reached(FailPoint::WrittenStored);
    Ok(())
}

/// Stores the outcome of a write that can no longer arrive.
async fn store_found(
    running: &RunningOperation,
    id: ApprovalRoundId,
    found: Found,
) -> Result<(), Failure> {
    running.ctx().unanswered().clear();
    match found {
        Found::Done(written) => store_written(running, id, written).await,
        Found::Altered { version } => {
            let why = format!(
                "the gateway has written revision {version} with another policy than the approved one"
            );
            end(running, id, Ending::Failed, &why).await
        }
        Found::NotDone => {
            outcome::store(running, (id, RoundState::Sending), &Outcome::NotDone).await?;
            let why = "the gateway has not written the policy, which is tried again";
            Err(Failure::new(FailureCode::GatewayUnreachable, why))
        }
        Found::Moved => {
            let why = "another policy was written to the sandbox at the same time";
            end(running, id, Ending::Superseded, why).await
        }
    }
}

async fn end(
    running: &RunningOperation,
    id: ApprovalRoundId,
    ending: Ending,
    why: &str,
) -> Result<(), Failure> {
    let ended = Outcome::Ended(ending, why.to_owned());
    Ok(outcome::store(running, (id, RoundState::Sending), &ended).await?)
}
