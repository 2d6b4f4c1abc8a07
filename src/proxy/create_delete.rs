//! Creates and deletes sandboxes. These two calls are more than forwarded: hooks run before and after them, and the
//! data attached to a sandbox is deleted with it.
//!
//! They run on the main runtime, which has the hooks, the operations and the database, in a task that continues if the
//! caller hangs up.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};

use super::admit::AdmittedCall;
use super::body::ProxiedBody;
use super::read_request::PreparedRequest;
use super::rewrite;
use crate::access::policy::Lifecycle;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::openshell::gateway::ForwardedResponse;
use crate::proxy::SandboxIds;
use crate::resources::sandboxes::stock_client::{self, ForwardedCall};
use crate::rpc::call;
use crate::upstream::headers::{self, AddedHeaders};
use crate::upstream::message;

/// Executes the creation or deletion.
pub(super) async fn run(
    change: Lifecycle,
    admitted: AdmittedCall<'_>,
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
    let forwarded = ForwardedCall {
        generation: admitted.generation,
        headers: headers::for_forwarding(from, &added),
        message: read.message_bytes(),
        workspace: prepared.sandbox.workspace,
        sandbox: prepared.sandbox.name,
        deadline,
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
        let response = match change {
            Lifecycle::Create => stock_client::create(ctx, forwarded).await,
            Lifecycle::Delete => stock_client::delete(ctx, forwarded).await,
        };
        let refused = match &response {
            Ok(response) => response.error.as_ref(),
            Err(error) => Some(error),
        };
        let code = response.as_ref().ok().map(ForwardedResponse::code);
        if let (Some(counted_id), Some(code)) = (counted_id, code) {
            counted_id.finish(code);
        }
        call::close_audit_entry_with_code(&main, &noted, refused, code).await;
        response
    });
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
