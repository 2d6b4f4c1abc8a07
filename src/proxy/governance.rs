//! Calls that can change a policy. They are more than forwarded: the gate judges them and stores a write intent. Those
//! that create or delete a sandbox also run hooks, and delete the data that is attached to it.
//!
//! They run on the main runtime, which has the gate, the hooks, the operations and the database, in a task that
//! continues if the caller hangs up.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use tokio_util::sync::CancellationToken;

use super::admit::AdmittedCall;
use super::body::ProxiedBody;
use super::gate_call::{self, CheckedRequest};
use super::read_request::PreparedRequest;
use super::rewrite;
use crate::access::policy::PolicyChange;
use crate::access::principal::PrincipalId;
use crate::ctx::Ctx;
use crate::db::turns::CallerKey;
use crate::error::Error;
use crate::openshell::gateway::ForwardedResponse;
use crate::proxy::SandboxIds;
use crate::resources::approvals::gate::GateCall;
use crate::resources::sandboxes::forwarded::{self, ForwardedCall};
use crate::resources::sandboxes::stock_client;
use crate::rpc::call;
use crate::upstream::headers::{self, AddedHeaders};
use crate::upstream::message;

/// Executes the call.
pub(super) async fn run(
    change: PolicyChange,
    mut admitted: AdmittedCall<'_>,
    from: &HeaderMap,
    request_id: HeaderValue,
    mut prepared: PreparedRequest,
) -> Result<Response<ProxiedBody>, Error> {
    let app = Arc::clone(&admitted.proxy.app);
    let deadline = admitted.call.deadline;
    let added = AddedHeaders {
        // Hooks may run for minutes before the request is sent, so credential and timeout are set at that time.
        authorization: None,
        timeout: None,
        request_id: request_id.clone(),
        reads_response: true,
        traceparent: admitted.call.traceparent.clone(),
    };
    let read =
        prepared.request.take().ok_or_else(|| Error::internal("a request that was not read"))?;
    let path = admitted.row.path;
    let gate = gate_call::to_gate_call(CheckedRequest {
        row: admitted.row,
        guard: admitted.guard,
        generation: admitted.generation,
        message: read.message(),
    })?;
    let gate = GateCall { deadline, ..gate };
    let caller_left = CancellationToken::new();
    let _caller_waits = caller_left.clone().drop_guard();
    let checked = ForwardedCall {
        generation: admitted.generation,
        headers: headers::for_forwarding(from, &added),
        message: read.message_bytes(),
        workspace: prepared.sandbox.workspace,
        sandbox: prepared.sandbox.name,
        deadline,
        guard: admitted.watch.guard(),
        caller_left,
        request: admitted.row.request,
        gate,
    };
    // The audit entry moves to the call's note; the task closes it at the end.
    let entry = prepared.open_intent.take().and_then(super::audit::OpenIntent::into_entry);
    admitted.call.note.lock().entry = entry;
    let counted_id = prepared.request_id.take();
    let on = admitted.selected.gateway.clone();
    let ctx = Ctx::from_proxied_call(&app, admitted.call.clone(), admitted.selected.role, on);
    let main = Arc::clone(&app);
    let noted = admitted.call.clone();
    let task = app.spawn(async move {
        let response = make(change, ctx, path, checked).await;
        let refused = match &response {
            Ok(response) => response.error.as_ref(),
            Err(error) => Some(error),
        };
        let code = response.as_ref().ok().map(ForwardedResponse::code);
        match (counted_id, code, refused) {
            (Some(counted_id), Some(code), _) => counted_id.finish(code),
            // The gate, a hook or a check refused it: nothing was sent.
            (Some(counted_id), None, Some(error)) if error.is_refusal() => counted_id.refused(),
            (counted_id, _, _) => drop(counted_id),
        }
        call::close_audit_entry_with_code(&main, &noted, refused, code).await;
        response
    });
    // Hooks and the write of an approved change can take long. The task continues for callers that lose their access or
    // hang up, and records the outcome.
    admitted.watch.register(false);
    let response = admitted.watch.within(task).await?.map_err(Error::internal)??;
    if let (true, Some(message)) = (admitted.reports_sandbox_ids(), &response.message) {
        app.part::<SandboxIds>().learn(
            admitted.selected.gateway.id,
            admitted.lease.version(),
            message,
        );
    }
    Ok(build_response(response, &admitted, request_id))
}

/// Makes a checked call.
async fn make(
    change: PolicyChange,
    ctx: Ctx,
    path: &'static str,
    checked: ForwardedCall,
) -> Result<ForwardedResponse, Error> {
    match change {
        PolicyChange::Create => stock_client::create(ctx, checked).await,
        PolicyChange::Delete => forwarded::delete(ctx, checked).await,
        PolicyChange::Config
        | PolicyChange::Attachment
        | PolicyChange::Approve
        | PolicyChange::ApproveAll
        | PolicyChange::Reject
        | PolicyChange::Undo
        | PolicyChange::Edit
        | PolicyChange::Provider
        | PolicyChange::Credentials
        | PolicyChange::Profile
        | PolicyChange::Workspace => {
            let (app, caller) = (Arc::clone(ctx.app()), ctx.principal().map(db_caller));
            let work = forwarded::change(ctx, path, checked);
            match caller {
                Some(caller) => app.db.run_as(caller, work).await,
                None => work.await,
            }
        }
    }
}

/// Returns the caller under which a call takes its turns at the database.
fn db_caller(principal: PrincipalId) -> CallerKey {
    match principal {
        PrincipalId::User(id) => CallerKey::User(id.get()),
        PrincipalId::ServicePrincipal(id) => CallerKey::ServicePrincipal(id.get()),
    }
}

fn build_response(
    response: ForwardedResponse,
    admitted: &AdmittedCall<'_>,
    request_id: HeaderValue,
) -> Response<ProxiedBody> {
    let ForwardedResponse { headers: response_headers, message, mut trailers, .. } = response;
    headers::clean(&mut trailers);
    trailers.remove(CONTENT_TYPE);
    let (path, gateway) = (admitted.guard.service_url_path, &admitted.selected.gateway.name);
    let message = message.map(|message| {
        // The message was already parsed.
        let marked = rewrite::mark_service_urls(path, gateway, &message);
        message::encode_frame(marked.as_deref().unwrap_or(&message))
    });
    let body = ProxiedBody::complete(message, Some(trailers));
    let mut response = Response::new(body);
    *response.version_mut() = http::Version::HTTP_2;
    *response.headers_mut() = response_headers;
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers::clean_response(head, admitted.lease.gateway_header(), request_id);
    response
}
