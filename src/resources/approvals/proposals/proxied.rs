//! Proposals of stock clients: an `UpdateConfig` that a workflow stops, as the policy that it would lead to.

use futures_util::future::BoxFuture;

use super::candidate::{self, Candidate};
use super::change::PolicyChange;
use super::submit::{Submission, submit};
use crate::ctx::Ctx;
use crate::db::types::{SandboxName, SandboxRef};
use crate::error::{Error, Reason};
use crate::governance::Origin;
use crate::openshell::Gateway;
use crate::openshell::sandbox_update::{SandboxUpdate, UpdateContent};
use crate::resources::approvals::rounds::{Round, RoundState};
use crate::resources::approvals::wake;

/// Result of a proxied change of a policy under a workflow.
#[derive(Debug)]
pub enum Proxied {
    /// The gateway has the policy already: this request changes nothing, and the gateway answers it.
    UpToDate(Box<Candidate>),
    /// No rule applies any more.
    NoRule,
    /// It is under review.
    InReview(Box<Round>),
}

/// Opens the round of a proxied `UpdateConfig`, with the policy that it would lead to. Its annotations are dropped.
/// `request` was parsed strictly, and changes nothing else.
///
/// # Errors
/// Those of [`candidate::compute`] and of [`submit`]; `CONCURRENT_CHANGE` if the request expects another resource
/// version.
pub fn propose_update<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    sandbox: &'a SandboxName,
    request: &'a [u8],
) -> BoxFuture<'a, Result<Proxied, Error>> {
    Box::pin(async move {
        let update = SandboxUpdate::read(request)?;
        let change = match update.content {
            UpdateContent::Policy(policy) => PolicyChange::Encoded(policy),
            UpdateContent::Operations(operations) => PolicyChange::Operations(operations),
        };
        let holder = ctx.limit_holder();
        let candidate = candidate::compute(ctx, holder, gateway, sandbox, &change, "").await?;
        ctx.add_audit_detail("base_version", candidate.base.version);
        let expected = update.expected_resource_version;
        if expected != 0 && expected != candidate.resource_version {
            let why = format!(
                "the sandbox has resource version {}, not {expected}",
                candidate.resource_version
            );
            return Err(Error::explained(Reason::ConcurrentChange, why, []));
        }
        if candidate.is_up_to_date() {
            ctx.add_audit_detail("outcome", "noop");
            return Ok(Proxied::UpToDate(Box::new(candidate)));
        }
        let place = SandboxRef { gateway: ctx.required_gateway()?.clone(), name: sandbox.clone() };
        let submission = Submission {
            place: &place,
            change: &change,
            candidate: &candidate,
            comment: "",
            origin: Origin::Proxied,
        };
        let Some(opened) = submit(ctx, submission).await? else { return Ok(Proxied::NoRule) };
        if opened.round.state == RoundState::Approved {
            wake(ctx.app());
        }
        Ok(Proxied::InReview(Box::new(opened.round)))
    })
}
