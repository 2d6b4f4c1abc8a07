//! Calls of stock clients that can change a policy: they pass the gate and are then forwarded.
//!
//! Invariants
//! - without a rule, the gateway gets the client's own bytes; under a rule, it gets Shoreguard's encoding of what was
//!   checked (T09);
//! - the client gets the gateway's own response, and under a workflow the approval that a policy needs. Without a rule,
//!   the gateway has as much time as the client gives;
//! - what is stored under a sandbox's name is deleted with it, as through Shoreguard's own API.

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{domain, forwarded_drafts as drafts, input};
use crate::access::action::Action;
use crate::access::standing::AccessGuard;
use crate::ctx::Ctx;
use crate::db::types::{GatewayRef, SandboxName, workspace_or_default};
use crate::error::{Error, ResourceKind};
use crate::governance::Indirect;
use crate::openshell::draft_requests::{self, DraftRequest};
use crate::openshell::gateway::{CALL_TIME, ForwardedResponse, Forwarding};
use crate::openshell::policy_writes::PolicyWrite;
use crate::openshell::settings::inference_route;
use crate::openshell::{Gateway, Generation};
use crate::outbox::{NewEvent, event_types};
use crate::policy::InitialPolicy;
use crate::resources::approvals::RoundState;
use crate::resources::approvals::drafts::awaited::wait_for_one;
use crate::resources::approvals::gate::{self, Asked, GateCall, Gated, Passed, Place};
use crate::resources::approvals::proposals::candidate::Candidate;
use crate::resources::approvals::proposals::proxied::{Proxied, propose_update};
use crate::resources::approvals::proposals::required::required;
use crate::upstream::connection::Connection;

/// Attempts of a call while the rules of its sandbox are set and removed.
const REVIEW_TRIES: u32 = 3;
/// How often the intent of a call is renewed while it waits for its response.
const RENEW_EVERY: Duration = Duration::from_secs(10);

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
    /// Checks the caller when a change or a deletion is sent.
    pub guard: AccessGuard,
    /// Canceled when the caller no longer waits for the response.
    pub caller_left: CancellationToken,
    /// Full name of the request message.
    pub request: &'static str,
    /// The change that it requests.
    pub gate: GateCall,
}

impl ForwardedCall {
    /// Returns the sandbox.
    pub(super) fn sandbox_name(&self) -> SandboxName {
        let workspace = workspace_or_default(&self.workspace).to_owned();
        SandboxName { workspace, name: self.sandbox.clone() }
    }

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

    /// Returns how the call is sent, until a time of the clock that includes sleep.
    pub(super) fn forwarding(
        &self,
        send_until: Duration,
        guard: Option<AccessGuard>,
    ) -> Forwarding {
        Forwarding { headers: self.headers.clone(), deadline: self.deadline, guard, send_until }
    }
}

/// Connects to the gateway of a call, which must have the generation in which the message was read.
///
/// # Errors
/// Those of the connection.
pub(super) async fn connect(ctx: &Ctx, generation: Generation) -> Result<Gateway, Error> {
    let gateway = Gateway::connect_to_forward(ctx.app(), ctx.required_gateway()?).await?;
    let gateway = gateway.on_behalf_of(ctx);
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
    let before = domain::stored_before(&ctx, &place).await?;
    let passed = gate::pass(&ctx, &gateway, &call.gate).await?;
    let sent = forward_delete(&ctx, &gateway, &call, &passed).await;
    gate::finish(&ctx, passed).await;
    let (response, deleted) = sent?;
    if deleted && let Err(error) = domain::record_deletion(&ctx, &place, before.as_ref()).await {
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
    let forwarding = call.forwarding(passed.until, Some(call.guard.clone()));
    gateway.forward_delete(forwarding, &message, passed.time_left()?).await
}

/// Forwards a call that can change a policy and neither creates nor deletes a sandbox.
pub(crate) async fn change(
    ctx: Ctx,
    path: &'static str,
    call: ForwardedCall,
) -> Result<ForwardedResponse, Error> {
    let gateway = connect(&ctx, call.generation).await?;
    ctx.recheck()?;
    let decision = drafts::read(&call)?;
    let decision = decision.as_ref();
    for _ in 0..REVIEW_TRIES {
        match gate::pass_or_review(&ctx, &gateway, &call.gate).await? {
            Gated::Passed(passed) => {
                return forward_passed(&ctx, &gateway, (path, &call), decision, passed).await;
            }
            Gated::NeedsReview => {}
        }
        let Place::Sandbox(sandbox) = call.gate.asked.place() else {
            return Err(Error::internal("a policy without its sandbox"));
        };
        let answer = match decision {
            Some(request) => {
                drafts::review(&ctx, &gateway, &sandbox, request, call.deadline).await?
            }
            None => review_policy(&ctx, &gateway, (path, &call), &sandbox).await?,
        };
        // Without one, no rule applies any more.
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
    Err(Error::conflict(ResourceKind::ApprovalWorkflow, gateway.name()))
}

/// Opens the review of a policy; waits for its write if it was approved before. Returns `None` if no rule applies any
/// more.
async fn review_policy(
    ctx: &Ctx,
    gateway: &Gateway,
    (path, call): (&'static str, &ForwardedCall),
    sandbox: &SandboxName,
) -> Result<Option<ForwardedResponse>, Error> {
    match propose_update(ctx, gateway, sandbox, &call.message).await? {
        Proxied::NoRule => Ok(None),
        Proxied::InReview(round) if round.state == RoundState::Open => {
            Err(required(ctx, &round).await?)
        }
        // It was approved meanwhile, and the client asks again.
        Proxied::InReview(round) => {
            let written = wait_for_one(ctx, *round, call.deadline).await?;
            let answer = draft_requests::encode_written(written.version, &written.policy_hash);
            Ok(Some(ForwardedResponse::of_message(answer)))
        }
        Proxied::UpToDate(found) => {
            forward_unchanged(ctx, gateway, (path, call), (sandbox, &found)).await.map(Some)
        }
    }
}

/// Forwards a call that has passed the gate, and stores what follows from its answer.
async fn forward_passed(
    ctx: &Ctx,
    gateway: &Gateway,
    (path, call): (&'static str, &ForwardedCall),
    decision: Option<&DraftRequest>,
    passed: Passed,
) -> Result<ForwardedResponse, Error> {
    let begun = drafts::before(ctx, gateway, call, (decision, passed.is_governed)).await;
    let begun = match begun {
        Ok(begun) => begun,
        Err(error) => {
            gate::finish(ctx, passed).await;
            return Err(error);
        }
    };
    let sent = forward_change(ctx, gateway, (path, call), &passed).await;
    gate::finish(ctx, passed).await;
    if let Ok(response) = &sent {
        record_write(ctx, call, response).await;
    }
    drafts::after(ctx, gateway, call, (decision, begun.as_ref()), &sent).await;
    sent
}

/// Forwards a request that changes nothing: the policy that the gateway has already, which it refuses if anything was
/// written meanwhile. The annotations are those that the revision has.
async fn forward_unchanged(
    ctx: &Ctx,
    gateway: &Gateway,
    (path, call): (&'static str, &ForwardedCall),
    (sandbox, found): (&SandboxName, &Candidate),
) -> Result<ForwardedResponse, Error> {
    let message = gateway.encode_policy_write(&PolicyWrite {
        sandbox,
        policy: found.base_policy.encoded(),
        expected_resource_version: found.resource_version,
        annotations: &found.base.provenance,
    });
    let send_until = ctx.app().clock.since_boot() + CALL_TIME;
    let forwarding = call.forwarding(send_until, Some(call.guard.clone()));
    gateway.forward(path, forwarding, &message, Some(CALL_TIME)).await
}

/// Returns the sandbox whose policy a call writes, if any.
fn written(call: &GateCall) -> Option<&SandboxName> {
    match &call.asked {
        Asked::Write(place, _) | Asked::Indirect(place, Indirect::UnlistedDrafts) => Some(place),
        Asked::Create { .. }
        | Asked::Delete(_)
        | Asked::Indirect(..)
        | Asked::RemoveApprovalMode(_)
        | Asked::Reject { .. }
        | Asked::Provider { .. }
        | Asked::Profiles { .. }
        | Asked::Wide(..)
        | Asked::Harmless(_) => None,
    }
}

/// Returns the event of a change through the proxied API, if it has one.
fn event_of(ctx: &Ctx, call: &ForwardedCall, on: &GatewayRef) -> Option<NewEvent> {
    let action = call.gate.action;
    let mut payload = json!({ "gateway": &*on.name, "action": action.as_str() });
    if let Some(place) = written(&call.gate) {
        let payload = domain::event_payload(place, payload);
        return Some(ctx.new_event(event_types::POLICY_UPDATED, payload));
    }
    if ![Action::INFERENCE_ROUTE_SET, Action::INFERENCE_ROUTE_DELETE].contains(&action) {
        return None;
    }
    payload["workspace"] = workspace_or_default(&call.workspace).into();
    if action == Action::INFERENCE_ROUTE_SET
        && let Some((provider, model)) = inference_route(call.generation, &call.message)
    {
        payload["provider"] = provider.into();
        payload["model"] = model.into();
    }
    Some(ctx.new_event(event_types::INFERENCE_UPDATED, payload))
}

/// Emits the event of a change through the proxied API. A failure is only logged: the gateway has made the change, so
/// the caller gets its response.
async fn record_write(ctx: &Ctx, call: &ForwardedCall, response: &ForwardedResponse) {
    let (None, Some(on)) = (&response.error, ctx.gateway()) else { return };
    let Some(event) = event_of(ctx, call, on) else { return };
    let noted = ctx.record_change(async |tx| tx.emit(event.clone()).await).await;
    if let Err(error) = noted {
        warn!(gateway = %on.name, error = &error as &dyn std::error::Error, "not noted");
    }
}

async fn forward_change(
    ctx: &Ctx,
    gateway: &Gateway,
    (path, call): (&'static str, &ForwardedCall),
    passed: &Passed,
) -> Result<ForwardedResponse, Error> {
    let message = call.message_after(passed, gateway, ctx)?;
    let forwarding = call.forwarding(passed.until, Some(call.guard.clone()));
    if passed.is_governed {
        return gateway.forward(path, forwarding, &message, Some(passed.time_left()?)).await;
    }
    let sending = gateway.forward(path, forwarding, &message, None);
    wait_for_response(ctx, call, passed, sending).await
}

/// Waits for the response to a call that no rule limits: as long as its caller does, and [`CALL_TIME`] more, so that
/// its outcome is known. Its intent is renewed meanwhile.
async fn wait_for_response(
    ctx: &Ctx,
    call: &ForwardedCall,
    passed: &Passed,
    mut sending: BoxFuture<'_, Result<ForwardedResponse, Error>>,
) -> Result<ForwardedResponse, Error> {
    let clock = &ctx.app().clock;
    let mut given_up = pin!(async {
        call.caller_left.cancelled().await;
        clock.sleep(CALL_TIME).await;
    });
    loop {
        tokio::select! {
            biased;
            sent = &mut sending => return sent,
            () = &mut given_up => {
                let why = "the gateway has not answered since the caller left".to_owned();
                return Err(Error::DeadlineExceeded { why });
            }
            () = clock.sleep(RENEW_EVERY) => gate::renew(ctx, passed).await,
        }
    }
}
