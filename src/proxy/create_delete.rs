//! Creates and deletes sandboxes. These two calls are more than forwarded: hooks run before and after them, and the
//! data attached to a sandbox is deleted with it.
//!
//! They run on the main runtime, which has the hooks, the operations and the database, in a task that continues if the
//! caller hangs up.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};

use super::admit::Admitted;
use super::body::ProxiedBody;
use super::read_request::Prepared;
use crate::access::policy::Lifecycle;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::openshell::gateway::Passed;
use crate::proxy::SandboxIds;
use crate::resources::sandboxes::stock_client::{self, Forwarded};
use crate::rpc::call;
use crate::upstream::headers::{self, Ours};
use crate::upstream::message;

/// Executes the creation or deletion.
pub(super) async fn run(
    change: Lifecycle,
    admitted: Admitted<'_>,
    from: &HeaderMap,
    request_id: HeaderValue,
    mut prepared: Prepared,
) -> Result<Response<ProxiedBody>, Error> {
    let app = Arc::clone(&admitted.proxy.app);
    let deadline = admitted.call.deadline;
    let ours = Ours {
        // Hooks may run for minutes before the request is sent, so credential and timeout are set at that time.
        authorization: None,
        timeout: None,
        request_id: request_id.clone(),
        read: true,
        traceparent: admitted.call.traceparent.clone(),
    };
    let read =
        prepared.read.take().ok_or_else(|| Error::internal("a request that was not read"))?;
    let forwarded = Forwarded {
        generation: admitted.generation,
        headers: headers::request(from, &ours),
        message: read.message_bytes(),
        workspace: prepared.place.workspace,
        sandbox: prepared.place.name,
        deadline,
    };
    // The audit entry moves to the call's note; the task closes it at the end.
    let entry = prepared.closing.take().and_then(super::audit::Closing::into_entry);
    admitted.call.note.lock().entry = entry;
    let ids = prepared.ids.take();
    let on = admitted.chosen.gateway.clone();
    let ctx = Ctx::proxied(&app, admitted.call.clone(), admitted.chosen.role, on);
    let main = Arc::clone(&app);
    let noted = admitted.call.clone();
    let task = app.spawn(async move {
        let passed = match change {
            Lifecycle::Create => stock_client::create(ctx, forwarded).await,
            Lifecycle::Delete => stock_client::delete(ctx, forwarded).await,
        };
        let refused = match &passed {
            Ok(passed) => passed.refused.as_ref(),
            Err(error) => Some(error),
        };
        let code = passed.as_ref().ok().map(Passed::code);
        if let (Some(ids), Some(code)) = (ids, code) {
            ids.finish(code);
        }
        call::close_as(&main, &noted, refused, code).await;
        passed
    });
    let passed = admitted.watch.within(task).await?.map_err(Error::internal)??;
    if let (true, Some(message)) = (admitted.learns(), &passed.message) {
        app.part::<SandboxIds>().learn(
            admitted.chosen.gateway.id,
            admitted.lease.version(),
            message,
        );
    }
    Ok(answer(passed, &admitted, request_id))
}

fn answer(
    passed: Passed,
    admitted: &Admitted<'_>,
    request_id: HeaderValue,
) -> Response<ProxiedBody> {
    let Passed { head, message, mut trailers, .. } = passed;
    headers::clean(&mut trailers);
    trailers.remove(CONTENT_TYPE);
    let body = ProxiedBody::whole(message.map(|message| message::framed(&message)), Some(trailers));
    let mut response = Response::new(body);
    *response.version_mut() = http::Version::HTTP_2;
    *response.headers_mut() = head;
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers::response(head, admitted.lease.gateway_header(), request_id);
    response
}
