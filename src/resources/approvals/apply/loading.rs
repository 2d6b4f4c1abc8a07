//! Follows a written policy until its sandbox has loaded it.

use std::time::Duration;

use serde_json::{Value, json};

use super::fail_points::{self, FailPoint};
use super::live;
use super::outcome::{self, Outcome};
use crate::ctx::Ctx;
use crate::db::types::ApprovalRoundId;
use crate::error::{Error, ResourceKind};
use crate::openshell::Gateway;
use crate::openshell::policies::RevisionStatus;
use crate::resources::approvals::rounds::close::Ending;
use crate::resources::approvals::rounds::{Round, RoundState, store as rounds};
use crate::resources::operations::{Failure, FailureCode, RunningOperation};

/// First pause between two questions; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two questions.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why a round ends whose policy will not be loaded.
const DELETED: &str = "the sandbox, or its gateway, was removed before the policy was loaded";

/// State of a written revision on its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Load {
    /// Nothing yet.
    Pending,
    /// The sandbox has loaded it, or a later one.
    Loaded,
    /// The sandbox could not load it.
    Failed(String),
    /// The sandbox was deleted, or its gateway unregistered.
    Deleted,
}

/// Waits until a written policy is loaded, and ends its round.
///
/// # Errors
/// A failure that ends the operation: the sandbox could not load the policy, or has not loaded it in time. In the
/// latter case the round stays in the state `written`.
pub async fn wait(running: &RunningOperation, round: &Round) -> Result<Value, Failure> {
    let ctx = running.ctx();
    let clock = &ctx.app().clock;
    let version = written_version(round);
    let until = clock.since_boot() + ctx.app().config.policies.load_timeout();
    let mut pause = PAUSE_MIN;
    loop {
        match look(ctx, round).await {
            Ok(Load::Pending) | Err(_) => {}
            Ok(load) => {
                fail_points::reached(FailPoint::LoadSeen);
                return store(running, round, &load).await;
            }
        }
        if running.cancel().is_cancelled() {
            return Err(Failure::cancelled());
        }
        if clock.since_boot() >= until {
            let why = format!("written as revision {version}, not loaded yet");
            return Err(Failure::new(FailureCode::Timeout, why).with_result(result(round)));
        }
        clock.sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Ends a written round that no operation follows any more, if its policy was loaded or could not be. Returns whether
/// it has ended.
///
/// # Errors
/// Those of the gateway and of the database.
pub async fn close_if_loaded(ctx: &Ctx, id: ApprovalRoundId) -> Result<bool, Error> {
    let round = rounds::by_id(&mut ctx.db().read().await?, id).await?;
    let Some(round) = round.filter(|round| round.state == RoundState::Written) else {
        return Ok(false);
    };
    let load = look(ctx, &round).await?;
    let Some(outcome) = to_outcome(&load) else { return Ok(false) };
    let expected = (id, RoundState::Written);
    ctx.record_change(async |tx| outcome::store_in(ctx, tx, expected, &outcome).await).await
}

fn written_version(round: &Round) -> u32 {
    let version = round.progress.written_version.unwrap_or_default();
    u32::try_from(version).unwrap_or_default()
}

fn result(round: &Round) -> Value {
    json!({
        "approval": round.id.get(),
        "version": round.progress.written_version,
        "policy_hash": round.progress.written_hash,
    })
}

async fn look(ctx: &Ctx, round: &Round) -> Result<Load, Error> {
    if live::is_removed(ctx.app(), round) {
        return Ok(Load::Deleted);
    }
    let gateway = live::connect(ctx).await?;
    let sandbox = &round.place.name;
    match gateway.get_sandbox(sandbox).await {
        Ok(found) if round.sandbox_id.as_ref().is_none_or(|id| *id == found.id) => {}
        Ok(_) | Err(Error::NotFound { .. }) => return Ok(Load::Deleted),
        Err(error) => return Err(error),
    }
    look_at_revision(&gateway, round).await
}

async fn look_at_revision(gateway: &Gateway, round: &Round) -> Result<Load, Error> {
    let (sandbox, version) = (&round.place.name, written_version(round));
    let (revision, active) = match gateway.policy_revision(sandbox, version).await {
        // A gateway keeps a limited number of revisions.
        Err(Error::NotFound { kind: ResourceKind::PolicyRevision, .. }) => {
            let (_, active) = gateway.policy_revision(sandbox, 0).await?;
            return Ok(if active >= version { Load::Loaded } else { Load::Pending });
        }
        found => found?,
    };
    Ok(match revision.status {
        RevisionStatus::Loaded | RevisionStatus::Superseded => Load::Loaded,
        RevisionStatus::Failed => Load::Failed(revision.load_error),
        RevisionStatus::Pending | RevisionStatus::Unspecified if active >= version => Load::Loaded,
        RevisionStatus::Pending | RevisionStatus::Unspecified => Load::Pending,
    })
}

fn to_outcome(load: &Load) -> Option<Outcome> {
    match load {
        Load::Pending => None,
        Load::Loaded => Some(Outcome::Loaded),
        Load::Failed(why) => Some(Outcome::LoadFailed(why.clone())),
        Load::Deleted => Some(Outcome::Ended(Ending::Failed, DELETED.to_owned())),
    }
}

async fn store(running: &RunningOperation, round: &Round, load: &Load) -> Result<Value, Failure> {
    let Some(outcome) = to_outcome(load) else { return Ok(result(round)) };
    outcome::store(running, (round.id, RoundState::Written), &outcome).await?;
    fail_points::reached(FailPoint::AppliedStored);
    let failed =
        |why: String| Err(Failure::new(FailureCode::Refused, why).with_result(result(round)));
    match load {
        Load::Pending | Load::Loaded => Ok(result(round)),
        Load::Failed(why) => failed(outcome::load_failure(round, why)),
        Load::Deleted => failed(DELETED.to_owned()),
    }
}
