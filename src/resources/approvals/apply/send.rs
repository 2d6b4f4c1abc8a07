//! One attempt to write an approved round: reads, compares, stores the intent, sends, and reads back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::begin::{self, Beginning, Begun};
use super::fail_points::{self, FailPoint};
use super::found::Answer;
use super::live::{self, Compared, Live};
use super::outcome::{self, Outcome};
use super::{CALL_TIME, drafts, settle, successor};
use crate::ctx::Ctx;
use crate::db::types::ApprovalRoundId;
use crate::error::{Error, Reason, ResourceKind};
use crate::governance::Action;
use crate::openshell::policy_writes::PolicyWrite;
use crate::openshell::{Gateway, annotation};
use crate::policy::Policy;
use crate::resources::approvals::proposals::store as proposals;
use crate::resources::approvals::rounds::close::Ending;
use crate::resources::approvals::rounds::{Content, Round, RoundState, store as rounds};
use crate::resources::operations::{Failure, RunningOperation};

/// Number of times that a write is sent in one attempt while other writes of the sandbox change its resource version.
pub(super) const SENDS_MAX: u32 = 10;
/// A write is not sent if less time is left for it.
pub(super) const CALL_TIME_MIN: Duration = Duration::from_secs(1);
/// Why a round ends whose sandbox is another one now.
pub(super) const OTHER_SANDBOX: &str = "the sandbox was deleted, and another one has its name";

/// An approved round and its gateway.
struct Attempt<'a> {
    running: &'a RunningOperation,
    gateway: Gateway,
    round: &'a Round,
    candidate: Policy,
    digest: String,
    annotations: BTreeMap<String, String>,
}

/// Tries to write an approved round. Afterwards its state says what to do next.
///
/// # Errors
/// A failure that ends the operation: the round waits, or the gateway cannot be reached.
pub async fn attempt(running: &RunningOperation, round: &Round) -> Result<(), Failure> {
    let ctx = running.ctx();
    if live::is_removed(ctx.app(), round) {
        let why = "the gateway was unregistered";
        return end(running, round, Ending::Withdrawn, why).await;
    }
    if round.action != Action::PolicyApply {
        return Box::pin(drafts::attempt(running, round)).await;
    }
    let candidate = read_candidate(ctx, round).await?;
    let Some(gateway) = connect(running, round, "policy").await? else { return Ok(()) };
    let annotations = annotations(ctx, round).await?;
    let digest = candidate.digest();
    let read = live::read(&gateway, &round.place.name).await;
    let Some(live) = fetched(running, round, read).await? else { return Ok(()) };
    Attempt { running, gateway, round, candidate, digest, annotations }.begin(live).await
}

/// Connects to the gateway of a round. Ends the round and returns `None` if the gateway has another generation than the
/// `reviewed` policy or rule.
pub(super) async fn connect(
    running: &RunningOperation,
    round: &Round,
    reviewed: &str,
) -> Result<Option<Gateway>, Failure> {
    let gateway = live::connect(running.ctx()).await?;
    if Some(gateway.generation()) == round.generation {
        return Ok(Some(gateway));
    }
    let why = format!("the gateway has another generation than the reviewed {reviewed}");
    end(running, round, Ending::Superseded, &why).await?;
    Ok(None)
}

/// Returns what was read of the sandbox of a round. Ends the round and returns `None` if the sandbox was deleted.
pub(super) async fn fetched<T>(
    running: &RunningOperation,
    round: &Round,
    read: Result<T, Error>,
) -> Result<Option<T>, Failure> {
    match read {
        Ok(read) => {
            fail_points::reached(FailPoint::ApplyFetched);
            Ok(Some(read))
        }
        Err(Error::NotFound { .. }) => {
            end(running, round, Ending::Withdrawn, "the sandbox was deleted").await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns why a round waits while its gateway has a policy for all sandboxes.
pub(super) fn global_policy() -> Error {
    let why =
        "the gateway has a policy for all sandboxes: the change waits until that policy is deleted";
    Error::refused(Reason::Governed, why)
}

/// Ends a round that was not sent.
pub(super) async fn end(
    running: &RunningOperation,
    round: &Round,
    ending: Ending,
    why: &str,
) -> Result<(), Failure> {
    let outcome = Outcome::Ended(ending, why.to_owned());
    Ok(outcome::store(running, (round.id, round.state), &outcome).await?)
}

async fn read_candidate(ctx: &Ctx, round: &Round) -> Result<Policy, Error> {
    let stored = rounds::content(&mut ctx.db().read().await?, round.id).await?;
    match Content::decode(round.action, round.generation, &stored)? {
        Content::Policy(content) => Ok(content.candidate),
        Content::Rule(_) | Content::Draft(_) | Content::Undo(_) => {
            Err(Error::internal("a content that is not a policy is written as one"))
        }
    }
}

/// Returns the annotations of the revision, which are the same at each attempt.
async fn annotations(ctx: &Ctx, round: &Round) -> Result<BTreeMap<String, String>, Error> {
    let proposal = proposals::of_round(&mut ctx.db().read().await?, round).await?;
    let author = || round.authors.first().map(ToString::to_string).unwrap_or_default();
    Ok(BTreeMap::from([
        (annotation::ACTOR.to_owned(), proposal.map_or_else(author, |of| of.proposed_by)),
        (annotation::ROUND.to_owned(), round.id.to_string()),
    ]))
}

impl Attempt<'_> {
    fn compare(&self, live: &Live) -> Compared {
        Compared::of(self.round, &self.digest, live)
    }

    /// Compares, stores the intent, and sends.
    async fn begin(self, live: Live) -> Result<(), Failure> {
        let (running, round) = (self.running, self.round);
        let there = match self.compare(&live) {
            Compared::OtherSandbox => {
                return end(running, round, Ending::Withdrawn, OTHER_SANDBOX).await;
            }
            // It changes what is in force, which is not compared before it has ended.
            Compared::Same | Compared::AlreadyThere(_) | Compared::Moved(_) if live.is_global => {
                return Err(global_policy().into());
            }
            Compared::Same => None,
            Compared::AlreadyThere(there) => Some(there),
            Compared::Moved(why) => {
                return Box::pin(successor::supersede(running, &self.gateway, round, why)).await;
            }
        };
        // Before the transaction: its deadline is later.
        let until = running.ctx().app().clock.since_boot() + CALL_TIME;
        let beginning = Beginning {
            round,
            live: &live,
            candidate: &self.digest,
            already_there: there.as_ref(),
        };
        match Box::pin(begin::begin(running, &beginning)).await? {
            Begun::Changed => Ok(()),
            Begun::Waits(why) => Err(why.into()),
            Begun::Busy => {
                begin::wait_for_other_write(running).await;
                Ok(())
            }
            Begun::Written => {
                fail_points::reached(FailPoint::WrittenStored);
                Ok(())
            }
            Begun::Send => {
                fail_points::reached(FailPoint::IntentStored);
                self.send(live, until).await
            }
        }
    }

    /// Sends the write, again while the gateway refuses it because another write came first and changed nothing that
    /// was reviewed.
    async fn send(self, mut live: Live, until: Duration) -> Result<(), Failure> {
        let sending = (self.round.id, RoundState::Sending);
        let clock = &self.running.ctx().app().clock;
        for _ in 0..SENDS_MAX {
            let left = until.saturating_sub(clock.since_boot());
            if left < CALL_TIME_MIN {
                break;
            }
            // A replica that was frozen must not send what its successor has sent.
            self.running.check_lease()?;
            let write = PolicyWrite {
                sandbox: &self.round.place.name,
                policy: self.candidate.encoded(),
                expected_resource_version: live.resource_version,
                annotations: &self.annotations,
            };
            let answer = fail_points::while_sending(self.gateway.write_policy(&write, until)).await;
            fail_points::reached(FailPoint::ApplyAnswered);
            match Answer::of(answer, self.gateway.may_have_processed()) {
                // What the gateway has decides, even if it reports success.
                Answer::Done(_) | Answer::Unknown(_) => {
                    return self.settle(sending.0).await;
                }
                Answer::NotDone(error) => return self.not_done(error).await,
                Answer::Refused(error) => return self.refused(error).await,
                Answer::Changed => {}
            }
            live = match live::read(&self.gateway, &self.round.place.name).await {
                Ok(live) => live,
                Err(error) => return self.not_done(error).await,
            };
            match self.compare(&live) {
                Compared::Same => {}
                // The resource version changes with each write, so the last write was not carried out. Another one can
                // have written the same policy.
                Compared::AlreadyThere(_) => {
                    return self.settle(sending.0).await;
                }
                Compared::OtherSandbox => {
                    let ended = Outcome::Ended(Ending::Failed, OTHER_SANDBOX.to_owned());
                    return Ok(outcome::store(self.running, sending, &ended).await?);
                }
                // The last write was not carried out, and the round waits for the end of that policy.
                Compared::Moved(_) if live.is_global => {
                    return self.not_done(global_policy()).await;
                }
                Compared::Moved(why) => {
                    let round = Round { state: sending.1, ..self.round.clone() };
                    let moved = successor::supersede(self.running, &self.gateway, &round, why);
                    return Box::pin(moved).await;
                }
            }
        }
        // Other writes of the sandbox came first each time, or too little time is left.
        let changed = Error::conflict(ResourceKind::Sandbox, &self.round.place.name);
        self.not_done(changed).await
    }

    async fn settle(&self, id: ApprovalRoundId) -> Result<(), Failure> {
        Box::pin(settle::settle(self.running, id, Some(&self.gateway))).await
    }

    async fn not_done(&self, error: Error) -> Result<(), Failure> {
        not_done(self.running, &self.gateway, self.round.id, error).await
    }

    /// Stores that the gateway refuses the write. With a policy for all sandboxes, the round waits for its end.
    async fn refused(&self, error: Error) -> Result<(), Failure> {
        let live = live::read(&self.gateway, &self.round.place.name).await;
        if live.is_ok_and(|live| live.is_global) {
            return self.not_done(error).await;
        }
        refused(self.running, &self.gateway, self.round.id, &error.to_string()).await
    }
}

/// Stores that nothing was done, and ends the operation with the error. Another operation tries again.
pub(super) async fn not_done(
    running: &RunningOperation,
    gateway: &Gateway,
    round: ApprovalRoundId,
    error: Error,
) -> Result<(), Failure> {
    gateway.mark_outcome_known();
    outcome::store(running, (round, RoundState::Sending), &Outcome::NotDone).await?;
    Err(error.into())
}

/// Ends a round that was sent: the gateway refuses it, for this reason.
pub(super) async fn refused(
    running: &RunningOperation,
    gateway: &Gateway,
    round: ApprovalRoundId,
    why: &str,
) -> Result<(), Failure> {
    gateway.mark_outcome_known();
    let ended = Outcome::Ended(Ending::Failed, why.to_owned());
    Ok(outcome::store(running, (round, RoundState::Sending), &ended).await?)
}
