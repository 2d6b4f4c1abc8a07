//! Calls of stock clients that can change a policy: they pass the gate and are then forwarded.
//!
//! Invariants
//! - without a rule, the gateway gets the client's own bytes; under a rule, it gets Shoreguard's encoding of what was
//!   checked (T09);
//! - the client gets the gateway's own response, and under a workflow the approval that a policy needs;
//! - what is stored under a sandbox's name is deleted with it, as through Shoreguard's own API.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use tracing::warn;

use super::{domain, input};
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::{Error, ResourceKind};
use crate::openshell::gateway::ForwardedResponse;
use crate::openshell::policy_writes::PolicyWrite;
use crate::openshell::{Gateway, Generation};
use crate::policy::InitialPolicy;
use crate::resources::approvals::gate::{self, GateCall, Gated, Passed, Place};
use crate::resources::approvals::proposals::candidate::Candidate;
use crate::resources::approvals::proposals::proxied::{Proxied, propose_update};
use crate::resources::approvals::proposals::required::required;
use crate::upstream::connection::Connection;

/// Attempts of a call while the rules of its sandbox are set and removed.
const REVIEW_TRIES: u32 = 3;

/// A call that was authorized and checked.
#[derive(Debug)]
pub struct ForwardedCall {
    /// Generation of the API in which the message was read.
    pub generation: Generation,
    /// Headers for the gateway.
    pub headers: HeaderMap,
    /// Encoded request message.
    pub message: Bytes,
    /// Workspace of the sandbox.
    pub workspace: String,
    /// Name of the sandbox. It may be empty in a creation.
    pub sandbox: String,
    /// Deadline of the caller.
    pub deadline: Option<Instant>,
    /// Full name of the request message.
    pub request: &'static str,
    /// What it asks to change.
    pub gate: GateCall,
}

impl ForwardedCall {
    /// Returns the message that is sent: the caller's own bytes, or Shoreguard's encoding of them if a rule applies.
    ///
    /// # Errors
    /// `MESSAGE_TOO_LARGE` if a gateway would not accept it.
    pub(super) fn message_after(
        &self,
        passed: &Passed,
        gateway: &Gateway,
        ctx: &Ctx,
    ) -> Result<Bytes, Error> {
        if passed.needs_initial_policy {
            let initial = ctx.app().part::<InitialPolicy>().encoded(gateway.generation());
            return gateway.with_policy(&self.message, initial).map(Bytes::from);
        }
        if passed.is_governed {
            return gateway.encode_again(self.request, &self.message).map(Bytes::from);
        }
        Ok(self.message.clone())
    }
}

/// Connects to the gateway of a call, which must have the generation in which the message was read.
///
/// # Errors
/// Those of the connection.
pub(super) async fn connect(ctx: &Ctx, generation: Generation) -> Result<Gateway, Error> {
    let gateway = domain::connect(ctx).await?;
    if gateway.generation() != generation {
        return Err(Connection::changed(gateway.name()));
    }
    Ok(gateway)
}

/// Forwards a deletion.
pub(crate) async fn delete(ctx: Ctx, call: ForwardedCall) -> Result<ForwardedResponse, Error> {
    let gateway = connect(&ctx, call.generation).await?;
    ctx.recheck()?;
    let workspace = input::workspace(&call.workspace)?;
    let place = SandboxName { workspace, name: call.sandbox.clone() };
    let passed = gate::pass(&ctx, &gateway, &call.gate).await?;
    let sent = forward_delete(&ctx, &gateway, &call, &passed).await;
    gate::finish(&ctx, passed).await;
    let (response, deleted) = sent?;
    if deleted && let Err(error) = domain::record_deletion(&ctx, &place).await {
        // The gateway has deleted the sandbox, so the caller gets its response. The sweep deletes what is stored here.
        warn!(gateway = %gateway.name(), error = &error as &dyn std::error::Error, "not noted yet");
    }
    Ok(response)
}

async fn forward_delete(
    ctx: &Ctx,
    gateway: &Gateway,
    call: &ForwardedCall,
    passed: &Passed,
) -> Result<(ForwardedResponse, bool), Error> {
    let message = call.message_after(passed, gateway, ctx)?;
    let headers = (call.headers.clone(), call.deadline);
    gateway.forward_delete(headers, &message, passed.time_left()?).await
}

/// Forwards a call that can change a policy and neither creates nor deletes a sandbox.
pub(crate) async fn change(
    ctx: Ctx,
    path: &'static str,
    call: ForwardedCall,
) -> Result<ForwardedResponse, Error> {
    let gateway = connect(&ctx, call.generation).await?;
    ctx.recheck()?;
    for _ in 0..REVIEW_TRIES {
        match gate::pass_or_review(&ctx, &gateway, &call.gate).await? {
            Gated::Passed(passed) => {
                let sent = forward_change(&ctx, &gateway, (path, &call), &passed).await;
                gate::finish(&ctx, passed).await;
                return sent;
            }
            Gated::NeedsReview => {}
        }
        let Place::Sandbox(sandbox) = call.gate.asked.place() else {
            return Err(Error::internal("a policy without its sandbox"));
        };
        match propose_update(&ctx, &gateway, &sandbox, &call.message).await? {
            Proxied::NoRule => {}
            Proxied::InReview(round) => return Err(required(&ctx, &round).await?),
            Proxied::UpToDate(found) => {
                return forward_unchanged(&gateway, (path, &call), &sandbox, &found).await;
            }
        }
    }
    Err(Error::conflict(ResourceKind::ApprovalWorkflow, gateway.name()))
}

/// Forwards a request that changes nothing: the policy that the gateway has already, which it refuses if anything was
/// written meanwhile. The annotations are those that the revision has.
async fn forward_unchanged(
    gateway: &Gateway,
    (path, call): (&'static str, &ForwardedCall),
    sandbox: &SandboxName,
    found: &Candidate,
) -> Result<ForwardedResponse, Error> {
    let message = gateway.encode_policy_write(&PolicyWrite {
        sandbox,
        policy: found.base_policy.encoded(),
        expected_resource_version: found.resource_version,
        annotations: &found.base.provenance,
    });
    let headers = (call.headers.clone(), call.deadline);
    gateway.forward(path, headers, &message, gate::CALL_TIME).await
}

async fn forward_change(
    ctx: &Ctx,
    gateway: &Gateway,
    (path, call): (&'static str, &ForwardedCall),
    passed: &Passed,
) -> Result<ForwardedResponse, Error> {
    let message = call.message_after(passed, gateway, ctx)?;
    let headers = (call.headers.clone(), call.deadline);
    gateway.forward(path, headers, &message, passed.time_left()?).await
}
