//! Decisions of stock clients about drafts: under a workflow they are votes and proposals, otherwise they are forwarded,
//! and the answer of the gateway ends the reviews that it decides.
//!
//! A failure after the gateway has answered is only logged: the reviews are brought up to date later.

use std::time::Instant;

use bytes::Bytes;
use tracing::warn;

use super::forwarded::ForwardedCall;
use crate::ctx::Ctx;
use crate::db::types::{SandboxName, SandboxRef};
use crate::error::{Error, Reason};
use crate::openshell::Gateway;
use crate::openshell::draft_requests::{self, DraftRequest};
use crate::openshell::gateway::ForwardedResponse;
use crate::resources::approvals::drafts::current;
use crate::resources::approvals::drafts::edit::{self, BegunEdit};
use crate::resources::approvals::drafts::proxied::{self, ListedApproval, Rejected};
use crate::resources::operations::retry::is_final;

/// Reads the decision about drafts that a call makes; `None` for another call.
///
/// # Errors
/// `MALFORMED_MESSAGE`.
pub(super) fn read(call: &ForwardedCall) -> Result<Option<DraftRequest>, Error> {
    DraftRequest::read(call.generation, call.request, &call.message)
        .map_err(|_| Error::refused(Reason::MalformedMessage, "the message cannot be decoded"))
}

fn place(ctx: &Ctx, name: SandboxName) -> Result<SandboxRef, Error> {
    Ok(SandboxRef { gateway: ctx.required_gateway()?.clone(), name })
}

/// Makes a decision under a workflow, without forwarding it. Returns `None` if no rule applies any more.
///
/// # Errors
/// `APPROVAL_REQUIRED` if votes are missing; those of [`proxied`].
pub(super) async fn review(
    ctx: &Ctx,
    gateway: &Gateway,
    sandbox: &SandboxName,
    request: &DraftRequest,
    deadline: Option<Instant>,
) -> Result<Option<ForwardedResponse>, Error> {
    let place = place(ctx, sandbox.clone())?;
    let answer = match request {
        DraftRequest::Approve(asked) => {
            let listed = std::slice::from_ref(asked);
            let approval = ListedApproval { listed, skips_flagged: false, deadline };
            let written = proxied::approve(ctx, gateway, &place, approval).await?;
            draft_requests::encode_written(written.version, &written.policy_hash)
        }
        DraftRequest::ApproveAll { listed, includes_flagged } => {
            let skips_flagged = !includes_flagged;
            let approval = ListedApproval { listed, skips_flagged, deadline };
            let written = proxied::approve(ctx, gateway, &place, approval).await?;
            let proxied::Written { version, policy_hash, approved, skipped } = written;
            draft_requests::encode_all_approved(version, &policy_hash, approved, skipped)
        }
        DraftRequest::Reject { chunk, reason } => {
            match proxied::reject(ctx, gateway, &place, (chunk, reason)).await? {
                Rejected::Done => Bytes::new(),
                Rejected::NoRule => return Ok(None),
            }
        }
        DraftRequest::Undo(chunk) => {
            return match proxied::undo(ctx, gateway, &place, chunk).await? {
                Some(required) => Err(required),
                None => Ok(None),
            };
        }
        DraftRequest::Edit(_) | DraftRequest::Clear => {
            return Err(Error::internal("an edit of a draft needs no review"));
        }
    };
    Ok(Some(ForwardedResponse::of_message(answer)))
}

/// Does what must be stored before a decision is forwarded: the editor of a draft becomes an author of its content.
///
/// # Errors
/// Those of [`edit::begin`].
pub(super) async fn before(
    ctx: &Ctx,
    gateway: &Gateway,
    call: &ForwardedCall,
    (request, is_governed): (Option<&DraftRequest>, bool),
) -> Result<Option<BegunEdit>, Error> {
    let Some(DraftRequest::Edit(chunk)) = request else { return Ok(None) };
    let place = place(ctx, call.sandbox_name())?;
    edit::begin(ctx, gateway, &place, chunk, is_governed).await
}

/// Stores what follows from the answer to a forwarded decision.
pub(super) async fn after(
    ctx: &Ctx,
    gateway: &Gateway,
    call: &ForwardedCall,
    (request, begun): (Option<&DraftRequest>, Option<&BegunEdit>),
    sent: &Result<ForwardedResponse, Error>,
) {
    let Some(request) = request else { return };
    let refusal = match sent {
        Ok(response) => response.error.as_ref(),
        Err(error) => Some(error),
    };
    if let Some(error) = refusal {
        let is_certain = is_final(error) || !gateway.may_have_processed();
        if let (Some(begun), true) = (begun, is_certain) {
            edit::cancel(ctx, begun).await;
        }
        return;
    }
    if let Err(error) = follow(ctx, gateway, call, request, begun.is_some()).await {
        warn!(error = &error as &dyn std::error::Error, "reviews of drafts are not current yet");
    }
}

async fn follow(
    ctx: &Ctx,
    gateway: &Gateway,
    call: &ForwardedCall,
    request: &DraftRequest,
    is_edit_of_round: bool,
) -> Result<(), Error> {
    let place = place(ctx, call.sandbox_name())?;
    let by = |what: &str| format!("{what} through the OpenShell API by {}", ctx.actor());
    match request {
        DraftRequest::Approve(asked) => {
            current::close_of_chunk(ctx, &place, &asked.chunk, &by("approved")).await
        }
        DraftRequest::Reject { chunk, .. } => {
            current::close_of_chunk(ctx, &place, chunk, &by("rejected")).await
        }
        DraftRequest::Undo(chunk) => {
            current::close_of_chunk(ctx, &place, chunk, &by("undone")).await
        }
        DraftRequest::ApproveAll { .. } => {
            current::refresh(ctx, gateway, &place, &by("approved")).await.map(drop)
        }
        DraftRequest::Clear => {
            current::refresh(ctx, gateway, &place, &by("cleared")).await.map(drop)
        }
        DraftRequest::Edit(chunk) => {
            if is_edit_of_round {
                edit::finish(ctx, gateway, &place, chunk).await;
            }
            Ok(())
        }
    }
}
