//! The work of an operation: writes a round, or determines the outcome of its write, until the round has ended.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{loading, send, settle};
use crate::db::types::ApprovalRoundId;
use crate::error::Error;
use crate::resources::approvals::rounds::{Round, RoundState, store as rounds};
use crate::resources::operations::{Failure, FailureCode, RunningOperation};

/// Time after which an operation begins no further attempt: the next operation continues.
const TRY_TIME: Duration = Duration::from_mins(1);

/// Returns the input of an operation, for a takeover.
pub(super) fn input(id: ApprovalRoundId) -> Vec<u8> {
    json!({ "approval": id.get() }).to_string().into_bytes()
}

fn parse_input(input: &[u8]) -> Option<ApprovalRoundId> {
    let input: Value = serde_json::from_slice(input).ok()?;
    input.get("approval")?.as_i64().map(Into::into)
}

/// Resumes an operation whose replica has stopped. The state of the round says where.
#[must_use]
pub fn resume(
    running: RunningOperation,
    step: String,
    input: Vec<u8>,
) -> BoxFuture<'static, Result<Value, Failure>> {
    Box::pin(async move {
        drop(step);
        let bad = || Error::internal("an operation without its round");
        run(running, parse_input(&input).ok_or_else(bad)?).await
    })
}

/// Writes a round and follows it to its end.
pub(super) async fn run(running: RunningOperation, id: ApprovalRoundId) -> Result<Value, Failure> {
    let ctx = running.ctx();
    let clock = &ctx.app().clock;
    ctx.add_audit_detail("approval", id.get());
    let until = clock.since_boot() + TRY_TIME;
    loop {
        let round = rounds::by_id(&mut ctx.db().read().await?, id).await?;
        let round =
            round.ok_or_else(|| Error::internal("a round was deleted while it was written"))?;
        ctx.add_audit_detail("state", round.state.as_str());
        match round.state {
            RoundState::Approved => {
                running.progress(10, "comparing the policy with the gateway").await?;
                Box::pin(send::attempt(&running, &round)).await?;
            }
            RoundState::Sending => {
                running.progress(40, "finding out whether the policy was written").await?;
                Box::pin(settle::settle(&running, id, None)).await?;
            }
            RoundState::Written => {
                ctx.add_audit_detail("version", round.progress.written_version);
                running.progress(70, "waiting until the sandbox has loaded the policy").await?;
                return Box::pin(loading::wait(&running, &round)).await;
            }
            RoundState::Applied => return Ok(json!({ "approval": id.get() })),
            RoundState::Open
            | RoundState::Rejected
            | RoundState::Withdrawn
            | RoundState::Expired
            | RoundState::Superseded
            | RoundState::Failed
            | RoundState::RolledBack => {
                let mut conn = ctx.db().read().await?;
                let successor = rounds::successor(&mut conn, &round).await?;
                return Err(not_written(&round, successor));
            }
        }
        if running.cancel().is_cancelled() {
            return Err(Failure::cancelled());
        }
        if clock.since_boot() >= until {
            return Err(Failure::new(FailureCode::Timeout, "not written in time, and tried again"));
        }
    }
}

fn not_written(round: &Round, successor: Option<ApprovalRoundId>) -> Failure {
    let mut why = match &round.progress.close_reason {
        Some(reason) => format!("approval {} is {}: {reason}", round.id, round.state),
        None => format!("approval {} is {}", round.id, round.state),
    };
    if let Some(successor) = successor {
        why = format!("{why}; approval {successor} replaces it");
    }
    // What was reviewed is not what the gateway has any more.
    let is_outdated = round.state == RoundState::Superseded;
    let code = if is_outdated { FailureCode::ConcurrentChange } else { FailureCode::Refused };
    Failure::new(code, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_of_an_operation_names_its_round() {
        assert_eq!(parse_input(&input(7.into())), Some(7.into()));
        for bad in [b"".as_slice(), b"{}", b"{\"approval\":\"7\"}"] {
            assert_eq!(parse_input(bad), None);
        }
    }
}
