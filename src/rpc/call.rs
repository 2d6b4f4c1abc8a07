//! Runs the handler of a decoded message: policy check, [`Ctx`](crate::ctx::Ctx), domain function, status.
//!
//! Reads use [`handle_read`], which is dropped when the caller hangs up. Writes use [`handle_write`], which runs to
//! completion in its own task, so that a caller that hangs up neither leaves a transaction open nor loses the outcome.
//! Streams use [`super::streams`]. The future of a handler is large, so it is in a box.

use futures_util::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use prost::Message;
use tonic::{Request, Response, Status};
use tracing::warn;

use super::idempotency::{self, Claim, StoredResponse};
use crate::access::policy::{AllowedCallers, AuditMode, Method, Rpc, ScopeKind};
use crate::access::standing::{AccessCheck, RoleScope};
use crate::app::App;
use crate::audit::refused_writes::CredentialKey;
use crate::audit::{Ending, Outcome};
use crate::ctx::{self, AuthorizedCall, Call, CallContext};
use crate::db::turns::inherit_caller;
use crate::db::types::NamedGateway;
use crate::digest::Digest;
use crate::error::{Error, Reason, ResourceKind};
use crate::net::deadline;
use crate::status::{code_and_reason, to_status};
use crate::upstream::unanswered::OutcomeUnknown;

/// The result of a handler.
pub type Reply<R> = Result<Response<R>, Status>;

pub(super) fn split_request<M>(request: Request<M>) -> Result<(Call, M), Error> {
    let (_, mut extensions, message) = request.into_parts();
    // Without the extension the layers did not run: the caller is unknown, so the call fails.
    let call =
        extensions.remove::<Call>().ok_or_else(|| Error::internal("a call without layers"))?;
    Ok((call, message))
}

/// Runs a read: checks the caller, runs the handler, returns the response. Dropped when the caller hangs up.
pub async fn handle_read<M, R>(
    app: &Arc<App>,
    request: Request<M>,
    f: impl AsyncFnOnce(&M::Context, M) -> Result<R, Error>,
) -> Reply<R>
where
    M: Rpc,
    M::Context: CallContext,
{
    run_read(app, request, f).await.map(Response::new).map_err(to_status)
}

async fn run_read<M, R>(
    app: &Arc<App>,
    request: Request<M>,
    f: impl AsyncFnOnce(&M::Context, M) -> Result<R, Error>,
) -> Result<R, Error>
where
    M: Rpc,
    M::Context: CallContext,
{
    let (call, message) = split_request(request)?;
    let sensitive = M::METHOD.audit == AuditMode::Read;
    let digest =
        if sensitive { app.digest(M::METHOD.request, &message.encode_to_vec()) } else { None };
    let authorized = ctx::authorize(app, call.clone(), &message)?;
    let intent = sensitive.then(|| ctx::read_intent(&authorized, digest));
    let refusal = authorized.refusal();
    let access_check = authorized.access_check();
    let context = M::Context::from_authorized(authorized, None, false).await?;
    let answer = Box::pin(f(&context, message)).await;
    // The handler may have waited, and the caller may have lost its access to the response since.
    let answer = match access_check.map_or(Ok(()), |access_check| access_check.check(&app.snapshot))
    {
        Ok(()) => answer,
        Err(ended) => Err(ctx::lost_access_error(ended, refusal.gateway_id())),
    };
    if let Some(intent) = intent {
        // Stored before the response is sent, so that every sensitive read is recorded.
        app.audit.record(intent, build_outcome(app, &call, answer.as_ref().err())).await?;
    } else if let Err(
        error @ (Error::Denied { .. }
        | Error::Unauthenticated { .. }
        | Error::NotFound { kind: ResourceKind::Gateway, .. }),
    ) = &answer
    {
        // The domain checked the exact scope and refused.
        call.note.lock().refusal = Some(refusal.with_reason(error));
    }
    answer
}

/// Runs a write: checks the caller, stores the intent, runs the handler to completion, stores the outcome.
pub async fn handle_write<M, R, F, Fut>(app: &Arc<App>, request: Request<M>, f: F) -> Reply<R>
where
    M: Rpc,
    M::Context: CallContext,
    R: Message + Default + 'static,
    F: FnOnce(M::Context, M) -> Fut + Send + 'static,
    Fut: Future<Output = Result<R, Error>> + Send,
{
    let (call, message) = split_request(request).map_err(to_status)?;
    let (task_app, span) = (Arc::clone(app), tracing::Span::current());
    let work = async move { run_write(&task_app, call, message, f).await };
    let task = app.spawn(tracing::Instrument::instrument(inherit_caller(work), span));
    match task.await {
        Ok(answer) => answer.map(Response::new).map_err(to_status),
        Err(gone) => Err(to_status(Error::internal(gone))),
    }
}

pub(super) async fn run_write<M, R, F, Fut>(
    app: &Arc<App>,
    call: Call,
    message: M,
    f: F,
) -> Result<R, Error>
where
    M: Rpc,
    M::Context: CallContext,
    R: Message + Default,
    F: FnOnce(M::Context, M) -> Fut,
    Fut: Future<Output = Result<R, Error>>,
{
    if !call.note.lock().begin_write() {
        return Err(deadline::deadline_exceeded());
    }
    let authorized = ctx::authorize(app, call.clone(), &message)?;
    let credential = call.caller.as_ref().map(|caller| (caller.principal(), caller.session()));
    if let Err(error) = admit_write(app, M::METHOD, &authorized, credential) {
        call.note.lock().refusal = Some(authorized.refusal().with_reason(&error));
        return Err(error);
    }
    let digest = app.digest(M::METHOD.request, &message.encode_to_vec());
    let key = message.request_id();
    call.note.lock().idempotency_key = (!key.is_empty()).then(|| key.to_owned());
    let claim = idempotency::claim(
        app,
        authorized.caller(),
        M::METHOD,
        message.request_id(),
        digest.as_ref(),
    )
    .await?;
    let claimed = match claim {
        Claim::Replay(kept) => return replay(app, &call, &authorized, digest, kept).await,
        Claim::First(claimed) => claimed,
    };
    let unsettled = (M::METHOD.scope == ScopeKind::Loaded).then(|| authorized.refusal());
    let answer = match M::Context::from_authorized(authorized, digest, true).await {
        Err(error) => Err(error),
        Ok(context) => AssertUnwindSafe(Box::pin(f(context, message)))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Error::internal("a handler panicked"))),
    };
    // A call with an unknown outcome keeps its key: a repeat must not do it twice.
    let unknown = answer.as_ref().is_err_and(|error| is_outcome_unknown(&call, error));
    if let Some(claimed) = claimed.filter(|_| !unknown) {
        let object_access = call.note.lock().object_access;
        let kept = answer
            .as_ref()
            .ok()
            .map(|answer| StoredResponse::new(answer.encode_to_vec(), object_access));
        if let Err(error) = claimed.finish(app, kept).await {
            warn!(error = &error as &dyn std::error::Error, "a response is not stored for repeats");
        }
    }
    if let Err(error) = &answer
        && call.caller.is_none()
        && !is_pending(error)
        && call.note.lock().entry.is_none()
    {
        // A wrong guess of an anonymous caller: it is counted and does not get its own entry (T16).
        app.audit.count_anonymous(call.client_ip, call.method, code_and_reason(error).1.as_str());
    }
    close_audit_entry(app, &call, answer.as_ref().err()).await;
    if let (Some(credential), Err(error)) = (credential, &answer)
        && error.is_refusal()
        && call.note.lock().entry.is_some()
    {
        app.audit.refused_writes().count(credential, app.clock.now());
    }
    let mut note = call.note.lock();
    let without = note.entry.is_none() && note.deferred.is_none();
    if without && let Err(error) = &answer {
        // The object could not be loaded, or not by this caller: recorded like a refusal by the scope.
        note.refusal =
            note.refusal.take().or_else(|| unsettled.map(|refusal| refusal.with_reason(error)));
    }
    if without && answer.is_ok() {
        // The domain returned without opening an audit entry, which is a bug in Shoreguard: the call fails.
        return Err(Error::internal("a write without an intent"));
    }
    answer
}

/// Whether a device polls for a decision that was not made yet. This is how the login works, and not a wrong guess.
fn is_pending(error: &Error) -> bool {
    matches!(error, Error::Refused { reason: Reason::DeviceLoginPending, .. })
}

/// Refuses a write before anything of it is stored: if the caller has too many refused writes, or if its role in the
/// scope is below admin while the disk is low.
fn admit_write(
    app: &App,
    method: &Method,
    authorized: &AuthorizedCall,
    credential: Option<CredentialKey>,
) -> Result<(), Error> {
    if let AllowedCallers::Role(_) = method.access {
        app.disk.admit(authorized.role())?;
    }
    credential
        .map_or(Ok(()), |credential| app.audit.refused_writes().admit(credential, app.clock.now()))
}

/// Returns the stored response of a repeated call if the caller still has access. The repeat gets its own audit entry.
async fn replay<R: Message + Default>(
    app: &Arc<App>,
    call: &Call,
    authorized: &AuthorizedCall,
    digest: Option<Digest>,
    kept: StoredResponse,
) -> Result<R, Error> {
    let gateway = match check_replay(app, authorized, &kept) {
        Ok(gateway) => gateway,
        Err(error) => {
            call.note.lock().refusal = Some(authorized.refusal().with_reason(&error));
            return Err(error);
        }
    };
    let mut intent = ctx::read_intent(authorized, digest);
    intent.gateway = gateway.or(intent.gateway);
    intent.detail = Some(serde_json::json!({ "replay": true }));
    app.audit.record(intent, build_outcome(app, call, None)).await?;
    R::decode(kept.answer.as_slice()).map_err(Error::internal)
}

/// Checks the current role of the caller of a repeated call, including on the gateway of the stored object (T17).
/// Returns that gateway.
fn check_replay(
    app: &App,
    authorized: &AuthorizedCall,
    kept: &StoredResponse,
) -> Result<Option<NamedGateway>, Error> {
    authorized.recheck()?;
    let (Some(object_access), Some(caller)) = (kept.object_access()?, authorized.caller()) else {
        return Ok(None);
    };
    let access_check = AccessCheck::new(
        caller.clone(),
        RoleScope::MaybeRemovedGateway(object_access.gateway),
        object_access.needed,
    );
    let checked = access_check.check(&app.snapshot);
    checked.map_err(|ended| ctx::lost_access_error(ended, Some(object_access.gateway)))?;
    let name = app.snapshot.gateway_name(object_access.gateway);
    Ok(name.map(|name| NamedGateway { id: Some(object_access.gateway), name }))
}

/// Closes the audit entry of a call. If the outcome cannot be stored, the call still succeeds.
pub(crate) async fn close_audit_entry(app: &App, call: &Call, error: Option<&Error>) {
    close_audit_entry_with_code(app, call, error, None).await;
}

/// Does the same with another status code: the code of a gateway that was passed on to the caller.
pub(crate) fn close_audit_entry_with_code<'a>(
    app: &'a App,
    call: &'a Call,
    error: Option<&'a Error>,
    code: Option<i32>,
) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let Some(entry) = call.note.lock().entry else { return };
        let mut outcome = build_outcome(app, call, error);
        outcome.code = code.unwrap_or(outcome.code);
        if let Err(error) = app.audit.close(entry, outcome).await {
            warn!(error = &error as &dyn std::error::Error, "an outcome was not stored yet");
        }
    })
}

/// Whether it is unknown if a failed call was carried out: the caller can hang up or time out after the gateway has
/// received the call, and the response to a commit can be lost.
fn is_outcome_unknown(call: &Call, error: &Error) -> bool {
    error.is_in_doubt() || call.note.unanswered.get().is_some_and(OutcomeUnknown::is_set)
}

/// Builds the outcome of a call for the audit log.
pub(crate) fn build_outcome(app: &App, call: &Call, error: Option<&Error>) -> Outcome {
    let ending = match error {
        None => Ending::Ok,
        Some(error) if is_outcome_unknown(call, error) => Ending::Unknown,
        Some(Error::Denied { .. } | Error::Unauthenticated { .. }) => Ending::Denied,
        Some(_) => Ending::Failed,
    };
    let mut note = call.note.lock();
    let (mut detail, target) = (std::mem::take(&mut note.detail), note.target.take());
    let bytes = note.bytes;
    drop(note);
    if let Some(error) = error {
        detail.insert("reason".to_owned(), code_and_reason(error).1.as_str().into());
    }
    Outcome {
        at: app.clock.now(),
        ending,
        code: error.map_or(0, |error| code_and_reason(error).0 as i32),
        took: call.started.elapsed(),
        detail: (!detail.is_empty()).then_some(detail.into()),
        bytes,
        target,
    }
}
