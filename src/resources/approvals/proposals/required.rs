//! The error of a call whose change is under review.

use futures_util::future::BoxFuture;

use crate::ctx::Ctx;
use crate::error::{Error, Reason};
use crate::governance::People;
use crate::resources::approvals::rounds::{Round, RoundState};
use crate::resources::approvals::votes::decide::{standing, votes_and_needed};

/// Returns the error of a call whose change is under review. It names the round and what is missing.
///
/// # Errors
/// Those of the database, and `GOVERNED` if a rule cannot be read by this version.
pub fn required<'a>(ctx: &'a Ctx, round: &'a Round) -> BoxFuture<'a, Result<Error, Error>> {
    Box::pin(async move { explain(ctx, round, false).await })
}

/// Does the same as [`required`] for a call that has voted in the round.
///
/// # Errors
/// Those of [`required`].
pub fn voted<'a>(ctx: &'a Ctx, round: &'a Round) -> BoxFuture<'a, Result<Error, Error>> {
    Box::pin(async move { explain(ctx, round, true).await })
}

async fn explain(ctx: &Ctx, round: &Round, has_voted: bool) -> Result<Error, Error> {
    let people = People::on_gateway(&ctx.app().snapshot, round.place.gateway.id);
    let mut conn = ctx.db().read().await?;
    let now = ctx.db().now(&mut conn).await?;
    // After the write began, the votes are history.
    let (votes, needed) = if round.state.is_voting() {
        votes_and_needed(&standing(&mut conn, round, &people, now).await?.tally)
    } else {
        (0, 0)
    };
    let id = round.id;
    let why = if round.state.is_closed() {
        format!("approval {id} is {}", round.state)
    } else if round.state != RoundState::Open {
        format!("approval {id} is approved, and its change is being written")
    } else if has_voted {
        format!("vote recorded, {votes} of {needed}: approval {id} is under review")
    } else {
        format!(
            "the change is under review: approval {id} has {votes} of {needed} votes; vote through ApprovalService"
        )
    };
    let facts = [
        ("approval", round.id.to_string()),
        ("digest", round.digest.clone()),
        ("state", round.state.to_string()),
        ("votes", votes.to_string()),
        ("needed", needed.to_string()),
    ];
    Ok(Error::explained(Reason::ApprovalRequired, why, facts))
}
