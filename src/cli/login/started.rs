//! Commands besides `login` that start a session: an accepted invitation, a registration and a changed password.
//!
//! Invariant: further commands use the session that the server has started.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor};

use super::{destination, keep_key, save};
use crate::cli::CliError;
use crate::cli::connect::{
    Client, ConnectArgs, Credential, Environment, ServerArgs, Session, Store,
};
use crate::pb::v1::{ChangePasswordResponse, LoginResponse};

const CHANGE_PASSWORD: &str = "session change-password";
const ACCEPT_INVITE: &str = "session accept-invite";
const REGISTER: &str = "session register";

/// Whether a command starts a session.
pub(in crate::cli) fn starts_session(command: &str) -> bool {
    matches!(command, CHANGE_PASSWORD | ACCEPT_INVITE | REGISTER)
}

/// Runs such a command and stores the session. Returns the text for people, and the response.
pub(in crate::cli) async fn start(
    command: &str,
    method: &MethodDescriptor,
    message: DynamicMessage,
    connect: &ConnectArgs,
) -> Result<(String, DynamicMessage), CliError> {
    if command == CHANGE_PASSWORD {
        change_password(method, message, connect).await
    } else {
        begin(method, message, &connect.server).await
    }
}

/// Changes the password. The server ends all sessions and starts one, which replaces the stored one.
async fn change_password(
    method: &MethodDescriptor,
    message: DynamicMessage,
    connect: &ConnectArgs,
) -> Result<(String, DynamicMessage), CliError> {
    let store = Store::open();
    let mut client = Client::connect(connect, None).await?;
    let stored_for = client.session_context().cloned();
    if stored_for.is_some() {
        // Before the stored session ends: whether the next one can be stored.
        drop(store.lock(connect.timeout()).await?);
    }
    let response = client.unary(method, message).await?;
    let Some(context) = stored_for else {
        let said = "password changed; all sessions have ended, that of this call too: log in again";
        return Ok((said.to_owned(), response));
    };
    let bytes = response.encode_to_vec();
    let answer = ChangePasswordResponse::decode(bytes.as_slice()).map_err(|_| unreadable())?;
    let session = Credential::Session(Session::from_response(
        answer.session_token,
        answer.expire_time,
        answer.refresh_token,
        answer.refresh_expire_time,
    ));
    // As in `save`: the session is nowhere else.
    store.lock(None).await?.begin_credentials()?.put(&context, &session)?;
    Ok(("password changed; your other sessions have ended".to_owned(), response))
}

/// Makes a call without a credential that logs in, and ends as `login` does.
async fn begin(
    method: &MethodDescriptor,
    message: DynamicMessage,
    server: &ServerArgs,
) -> Result<(String, DynamicMessage), CliError> {
    let store = Store::open();
    // Before an invitation is used: whether the session can be stored.
    drop(store.lock(server.timeout()).await?);
    let context = destination::choose(server, &Environment::read()?, &store.contexts()?)?;
    keep_key(&store, &context, server)?;
    let server = ServerArgs {
        context: None,
        endpoint: Some(context.endpoint.clone()),
        ca: context.ca.clone(),
        ..server.clone()
    };
    let mut client = Client::connect_for_login(&server).await?;
    let response = client.unary(method, message).await?;
    let bytes = response.encode_to_vec();
    // The responses of both have the fields of this one.
    let answer = LoginResponse::decode(bytes.as_slice()).map_err(|_| unreadable())?;
    let session = Credential::Session(Session::from_response(
        answer.session_token,
        answer.expire_time,
        answer.refresh_token,
        answer.refresh_expire_time,
    ));
    save(&store, &context, &session).await?;
    let said = format!("you are logged in to {}, context {}", context.endpoint, context.name);
    Ok((said, response))
}

fn unreadable() -> CliError {
    CliError::Io("the session in the response cannot be read: log in again".to_owned())
}
