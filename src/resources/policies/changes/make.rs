//! Validates a change, or opens its round and starts its write.

use super::super::domain::{self, PolicyDiff};
use crate::ctx::Ctx;
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::governance::{Origin, Verdict};
use crate::resources::approvals::apply::start_now;
use crate::resources::approvals::gate::write::judge_write;
use crate::resources::approvals::proposals::candidate::{Candidate, compute};
use crate::resources::approvals::proposals::change::PolicyChange;
use crate::resources::approvals::proposals::submit::{Submission, submit};
use crate::resources::approvals::{Round, RoundState, wake};

/// How a change is made.
#[derive(Debug, Clone, Default)]
pub struct ChangeOptions {
    /// Etag of the policy that the caller has seen; empty for the newest revision.
    pub etag: String,
    /// Whether nothing is changed.
    pub validate_only: bool,
    /// Why.
    pub comment: Option<String>,
}

/// A change, and what was done.
#[derive(Debug)]
pub struct Changed {
    /// The policy that it leads to, and its base.
    pub candidate: Candidate,
    /// Outcome of the call.
    pub outcome: Outcome,
}

/// Outcome of a call that changes a policy.
#[derive(Debug)]
pub enum Outcome {
    /// The newest revision has the content already.
    UpToDate,
    /// Only validated: what would be done.
    Validated(Verdict),
    /// It is under review.
    Proposed(Box<Round>),
    /// It is being written, by the operation with this id. `None` if the operation will start within seconds.
    Applying(Box<Round>, Option<String>),
}

impl Changed {
    /// Returns what the change alters.
    #[must_use]
    pub fn diff(&self) -> PolicyDiff {
        let Candidate { base_policy, policy, differences, .. } = &self.candidate;
        let is_equivalent = self.candidate.is_up_to_date();
        domain::diff_of(differences.clone(), is_equivalent, base_policy, policy)
    }
}

/// Makes a change of the policy of a sandbox.
///
/// # Errors
/// Those of [`compute`] and of [`submit`].
pub async fn make(
    ctx: &Ctx,
    place: &SandboxRef,
    change: &PolicyChange,
    options: &ChangeOptions,
) -> Result<Changed, Error> {
    ctx.add_audit_detail("workspace", place.workspace());
    ctx.add_audit_detail("comment", options.comment.as_deref());
    let gateway = domain::connect(ctx).await?;
    let (holder, etag) = (ctx.limit_holder(), &options.etag);
    let candidate = compute(ctx, holder, &gateway, &place.name, change, etag).await?;
    ctx.add_audit_detail("base_version", candidate.base.version);
    if candidate.is_up_to_date() {
        ctx.add_audit_detail("outcome", "noop");
        return Ok(Changed { candidate, outcome: Outcome::UpToDate });
    }
    let comment = options.comment.as_deref().unwrap_or_default();
    let submission =
        Submission { place, change, candidate: &candidate, comment, origin: Origin::Own };
    if options.validate_only {
        ctx.add_audit_detail("outcome", "dry_run");
        let mut conn = ctx.db().read().await?;
        let verdict = judge_write(ctx, &mut conn, place, submission.facts()).await?;
        drop(conn);
        return Ok(Changed { candidate, outcome: Outcome::Validated(verdict) });
    }
    let opened = submit(ctx, submission).await?;
    let opened = opened.ok_or_else(|| Error::internal("a change that passed without a round"))?;
    let outcome = begin_write(ctx, opened.round).await;
    Ok(Changed { candidate, outcome })
}

/// Starts the write of a round that is approved.
async fn begin_write(ctx: &Ctx, round: Round) -> Outcome {
    if round.state == RoundState::Open {
        return Outcome::Proposed(Box::new(round));
    }
    let operation = start_now(ctx.app(), &round).await;
    if operation.is_none() {
        wake(ctx.app());
    }
    Outcome::Applying(Box::new(round), operation)
}
