//! One attempt to write an approved decision about a draft: its approval, or the removal of an approved one.
//!
//! Invariants
//! - g03: nothing is sent unless everything that was reviewed is as it was. The chunk is read before the policy, so its
//!   review token cannot be newer than what it is compared with, and the gateway refuses a token as soon as anything
//!   has changed on which it depends;
//! - a token is renewed only by an approval that is sent here, after the votes were counted: the call that renews it
//!   approves if nothing has changed;
//! - what the gateway has decides about the outcome, even if it reports success.

use std::time::Duration;

use super::begin::{self, Beginning, Begun};
use super::draft_found::Reviewed;
use super::draft_successor::supersede;
use super::fail_points::{self, FailPoint};
use super::found::{Answer, SeenRevision};
use super::live::Live;
use super::send::{
    CALL_TIME_MIN, OTHER_SANDBOX, SENDS_MAX, connect, end, fetched, global_policy, not_done,
    refused,
};
use super::{CALL_TIME, settle};
use crate::db::types::SandboxRef;
use crate::error::{Error, ResourceKind};
use crate::openshell::Gateway;
use crate::openshell::drafts::{ChunkStatus, DraftChunk};
use crate::openshell::policies::PolicySource;
use crate::openshell::policy_writes::WrittenRevision;
use crate::policy::Policy;
use crate::resources::approvals::drafts::content::{DraftContent, UndoContent};
use crate::resources::approvals::drafts::current::CurrentDrafts;
use crate::resources::approvals::drafts::undo;
use crate::resources::approvals::rounds::close::Ending;
use crate::resources::approvals::rounds::{Round, RoundState};
use crate::resources::operations::{Failure, RunningOperation};

/// An approved round of a draft, and its gateway.
struct Attempt<'a> {
    running: &'a RunningOperation,
    gateway: Gateway,
    round: &'a Round,
    reviewed: Reviewed,
}

/// Present state of a gateway.
pub(super) struct State {
    pub(super) live: Live,
    pub(super) policy: Policy,
    pub(super) chunk: Option<DraftChunk>,
}

/// The result of comparing a round with its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Compared {
    /// Everything is as it was reviewed.
    Same,
    /// The sandbox is another one, of the same name.
    OtherSandbox,
    /// The gateway has a policy for all sandboxes.
    Global,
    /// The reviewed content has changed, for this reason.
    Moved(&'static str),
    /// The gateway would do something else than what was reviewed.
    Differs(&'static str),
}

/// Tries to write an approved decision about a draft. Afterwards the state of the round says what to do next.
///
/// # Errors
/// A failure that ends the operation: the round waits, or the gateway cannot be reached.
pub(super) async fn attempt(running: &RunningOperation, round: &Round) -> Result<(), Failure> {
    let ctx = running.ctx();
    ctx.add_audit_detail("chunk_id", round.chunk_id.as_str());
    let reviewed = Reviewed::read(&mut ctx.db().read().await?, round).await?;
    let Some(gateway) = connect(running, round, "rule").await? else { return Ok(()) };
    let attempt = Attempt { running, gateway, round, reviewed };
    let read = attempt.read().await;
    let Some(state) = fetched(running, round, read).await? else { return Ok(()) };
    attempt.begin(state).await
}

/// Reads a chunk, then the policy that it changes.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist; those of the calls.
pub(super) async fn read_state(
    gateway: &Gateway,
    place: &SandboxRef,
    chunk: &str,
) -> Result<State, Error> {
    let CurrentDrafts { base, chunks } = CurrentDrafts::read(gateway, place).await?;
    let chunk = chunks.into_iter().find(|found| found.id == chunk);
    let effective = gateway.effective_policy(&place.name).await?;
    let newest = SeenRevision {
        version: base.version,
        policy_hash: String::new(),
        round: None,
        digest: base.policy.digest(),
    };
    let live = Live {
        sandbox_id: base.sandbox_id,
        resource_version: 0,
        newest: Some(newest),
        is_global: effective.source == PolicySource::Gateway,
        effective_hash: effective.policy_hash,
    };
    Ok(State { live, policy: base.policy, chunk })
}

fn compare(round: &Round, reviewed: &Reviewed, state: &State) -> Compared {
    if round.sandbox_id.as_ref().is_some_and(|id| *id != state.live.sandbox_id) {
        return Compared::OtherSandbox;
    }
    if state.live.is_global {
        return Compared::Global;
    }
    let Some(chunk) = &state.chunk else { return Compared::Moved("the draft was deleted") };
    match reviewed {
        Reviewed::Approve(reviewed) => compare_approval(round, reviewed, state, chunk),
        Reviewed::Undo(reviewed) => compare_undo(reviewed, &state.policy, chunk),
    }
}

fn compare_approval(
    round: &Round,
    reviewed: &DraftContent,
    state: &State,
    chunk: &DraftChunk,
) -> Compared {
    let was_rejected = round.summary.draft.as_ref().is_some_and(|draft| draft.was_rejected);
    match chunk.status {
        ChunkStatus::Pending => {}
        ChunkStatus::Rejected if was_rejected => {}
        ChunkStatus::Rejected => return Compared::Moved("the draft was rejected on the gateway"),
        ChunkStatus::MaybeApproved => {
            return Compared::Moved("the draft was approved on the gateway");
        }
    }
    let Ok(now) = DraftContent::of(&state.policy, chunk) else {
        return Compared::Moved("the proposed rule can no longer be reviewed");
    };
    if !reviewed.covers(&now) {
        return Compared::Moved("the proposed rule, or its result, has changed");
    }
    // A gateway does not evaluate a chunk again when its policy moves. An outdated evaluation says nothing, and its
    // token is refused.
    let is_evaluated = chunk.current_effective_hash == state.live.effective_hash;
    if is_evaluated && !undo::leads_to(chunk, &now) {
        return Compared::Differs("the gateway would merge the rule in another way than reviewed");
    }
    Compared::Same
}

fn compare_undo(reviewed: &UndoContent, policy: &Policy, chunk: &DraftChunk) -> Compared {
    if chunk.status != ChunkStatus::MaybeApproved {
        return Compared::Moved("the draft is no longer approved");
    }
    match undo::content(policy, chunk) {
        Ok(now) if now.encode() == reviewed.encode() => Compared::Same,
        Ok(_) | Err(_) => Compared::Moved("the rule of the draft has changed"),
    }
}

impl Attempt<'_> {
    async fn read(&self) -> Result<State, Error> {
        let chunk = self.reviewed.chunk_id(self.round);
        read_state(&self.gateway, &self.round.place, chunk).await
    }

    fn compare(&self, state: &State) -> Compared {
        compare(self.round, &self.reviewed, state)
    }

    /// Compares, stores the intent, and sends.
    async fn begin(self, state: State) -> Result<(), Failure> {
        let (running, round) = (self.running, self.round);
        match self.compare(&state) {
            Compared::Same => {}
            Compared::OtherSandbox => {
                return end(running, round, Ending::Withdrawn, OTHER_SANDBOX).await;
            }
            Compared::Global => return Err(global_policy().into()),
            Compared::Differs(why) => return end(running, round, Ending::Failed, why).await,
            Compared::Moved(why) => {
                return Box::pin(supersede(running, &self.gateway, round, why)).await;
            }
        }
        // Before the transaction: its deadline is later.
        let until = running.ctx().app().clock.since_boot() + CALL_TIME;
        let beginning =
            Beginning { round, live: &state.live, candidate: &round.digest, already_there: None };
        match Box::pin(begin::begin(running, &beginning)).await? {
            // It is never written without a call.
            Begun::Changed | Begun::Written => Ok(()),
            Begun::Waits(why) => Err(why.into()),
            Begun::Busy => {
                begin::wait_for_other_write(running).await;
                Ok(())
            }
            Begun::Send => {
                fail_points::reached(FailPoint::IntentStored);
                self.send(state, until).await
            }
        }
    }

    async fn call(&self, state: &State, until: Duration) -> Result<WrittenRevision, Error> {
        let (sandbox, chunk) = (&self.round.place.name, self.reviewed.chunk_id(self.round));
        match &self.reviewed {
            Reviewed::Approve(_) => {
                self.gateway.approve_draft(sandbox, chunk, token(state), until).await
            }
            Reviewed::Undo(_) => self.gateway.undo_draft(sandbox, chunk, until).await,
        }
    }

    /// Sends the decision, again with the renewed token while the gateway has evaluated the chunk again and nothing that
    /// was reviewed has changed.
    async fn send(self, mut state: State, until: Duration) -> Result<(), Failure> {
        let clock = &self.running.ctx().app().clock;
        for _ in 0..SENDS_MAX {
            if until.saturating_sub(clock.since_boot()) < CALL_TIME_MIN {
                break;
            }
            // A replica that was frozen must not send what its successor has sent.
            self.running.check_lease()?;
            let answer = fail_points::while_sending(self.call(&state, until)).await;
            fail_points::reached(FailPoint::ApplyAnswered);
            let refusal = match Answer::of(answer, self.gateway.may_have_processed()) {
                // What the gateway has decides, even if it reports success.
                Answer::Done(_) | Answer::Unknown(_) => {
                    let (id, gateway) = (self.round.id, Some(&self.gateway));
                    return Box::pin(settle::settle(self.running, id, gateway)).await;
                }
                Answer::NotDone(error) => return self.not_done(error).await,
                Answer::Refused(error) => Some(error),
                Answer::Changed => None,
            };
            let now = match self.read().await {
                Ok(now) => now,
                Err(error) => return self.not_done(error).await,
            };
            match (self.compare(&now), refusal) {
                (Compared::Global, _) => return self.not_done(global_policy()).await,
                (Compared::OtherSandbox, _) => return self.fail(OTHER_SANDBOX).await,
                (Compared::Differs(why), _) => return self.fail(why).await,
                (Compared::Moved(why), _) => {
                    self.gateway.mark_outcome_known();
                    let round = Round { state: RoundState::Sending, ..self.round.clone() };
                    return Box::pin(supersede(self.running, &self.gateway, &round, why)).await;
                }
                // Nothing was evaluated again: a repeat would be refused, too.
                (Compared::Same, Some(error)) if token(&now) == token(&state) => {
                    return self.fail(&error.to_string()).await;
                }
                (Compared::Same, _) => state = now,
            }
        }
        // Other writes of the sandbox came first each time, or too little time is left.
        let changed = Error::conflict(ResourceKind::Sandbox, &self.round.place.name);
        self.not_done(changed).await
    }

    async fn not_done(&self, error: Error) -> Result<(), Failure> {
        not_done(self.running, &self.gateway, self.round.id, error).await
    }

    async fn fail(&self, why: &str) -> Result<(), Failure> {
        refused(self.running, &self.gateway, self.round.id, why).await
    }
}

/// Returns the review token of a chunk; empty without a chunk.
fn token(state: &State) -> &str {
    state.chunk.as_ref().map(|chunk| chunk.review_token.as_str()).unwrap_or_default()
}
