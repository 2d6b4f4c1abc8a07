//! Replaces the tokens of a stored session before they expire.
//!
//! Invariant: a refresh token is valid once. It is read and used, and its successor is stored, under one lock: of many
//! commands at once, one refreshes the session and the others use its result. An interruption waits for the successor.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Request};

use super::super::CliError;
use super::interrupt::SentToken;
use super::store::{Context, Credential, CredentialChange, Session, Store};
use crate::pb::v1::auth_service_client::AuthServiceClient;
use crate::pb::v1::{RefreshSessionRequest, RefreshSessionResponse};

/// Timeout of the response.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Returns the credential of a context whose session token expires soon. `timeout` is that of the user, which bounds
/// the wait for the lock, but not a refresh that was sent.
pub(super) async fn renew(
    channel: &Channel,
    store: &Store,
    context: &Context,
    timeout: Option<Duration>,
) -> Result<Credential, CliError> {
    let lock = store.lock(timeout).await?;
    // Another program may have refreshed or ended the session before this one got the lock.
    let session = match store.credential(context)? {
        Some(Credential::Session(session)) if session.is_due() => session,
        Some(current) => return Ok(current),
        None => return Err(ended(context)),
    };
    // Before the refresh token is used, since its successor must be stored.
    let change = lock.begin_credentials()?;
    let refresh_token = session.refresh_token.expose().to_owned();
    let mut request = Request::new(RefreshSessionRequest { refresh_token });
    request.set_timeout(ANSWER_TIME_MAX);
    let sent = SentToken::mark();
    let answer = AuthServiceClient::new(channel.clone()).refresh_session(request).await;
    let renewed = match answer {
        Ok(answer) => store_successor(change, context, answer.into_inner()),
        Err(status) if status.code() == Code::Unauthenticated => Err(ended(context)),
        Err(status) => Err(status.into()),
    };
    sent.settle().await;
    renewed
}

fn store_successor(
    change: CredentialChange,
    context: &Context,
    answer: RefreshSessionResponse,
) -> Result<Credential, CliError> {
    let renewed = Credential::Session(Session::from_response(
        answer.session_token,
        answer.expire_time,
        answer.refresh_token,
        answer.refresh_expire_time,
    ));
    change.put(context, &renewed)?;
    Ok(renewed)
}

fn ended(context: &Context) -> CliError {
    CliError::NotLoggedIn(format!(
        "the session of context `{}` has ended: log in with `shoreguard login`",
        context.name
    ))
}
