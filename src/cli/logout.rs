//! `shoreguard logout`: ends the session on the server and removes the credential of the context.

use clap::Args;
use tonic::Code;

use super::connect::{
    Client, ConnectArgs, Context, Contexts, Credential, Environment, Place, ServerArgs, Store,
};
use super::{CliError, login, output};
use crate::app::new_id;
use crate::pb::v1::LogoutRequest;
use crate::pb::v1::auth_service_client::AuthServiceClient;

/// The session to end.
#[derive(Debug, Args)]
pub(super) struct LogoutArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Logs out. The credential is removed even if the server cannot be reached, which is an error nevertheless: there, the
/// session continues.
pub(super) async fn run(args: LogoutArgs) -> Result<(), CliError> {
    let store = Store::open();
    let contexts = store.contexts()?;
    let Some(context) = find(&args.server, &Environment::read()?, &contexts)? else {
        return Err(CliError::NotLoggedIn("no context of this server is stored".to_owned()));
    };
    let timeout = args.server.timeout();
    let ended = match store.credential(&context)? {
        Some(Credential::Session(_)) => end_session(args.server, &context).await,
        Some(Credential::Key(_)) => Ok(()),
        None => {
            let said = format!("context {} has no credential: nothing was to do", context.name);
            return Ok(output::print_result(&said)?);
        }
    };
    store.lock(timeout).await?.remove_credential(&context.name)?;
    if ended.is_err() {
        output::print_error(
            "the credential was removed here, but the session on the server continues: end it with \
             `shoreguard session revoke` after the next login",
        );
    }
    ended?;
    Ok(output::print_result(&format!("logged out of {}", context.endpoint))?)
}

/// Returns the named context, the context of the given server, or the current context.
fn find(
    server: &ServerArgs,
    environment: &Environment,
    contexts: &Contexts,
) -> Result<Option<Context>, CliError> {
    if let Some(name) = &server.context {
        let context = contexts.require(name)?;
        login::check_same_server(
            &context,
            server.endpoint.as_deref().unwrap_or(&context.endpoint),
        )?;
        return Ok(Some(context));
    }
    let Some(endpoint) = server.endpoint.as_ref().or(environment.endpoint.as_ref()) else {
        return contexts.current();
    };
    let place = Place::parse(endpoint)?;
    for name in contexts.current_name().into_iter().chain(contexts.names()) {
        let known = contexts.require(name)?;
        if Place::parse(&known.endpoint)? == place {
            return Ok(Some(known));
        }
    }
    Ok(None)
}

/// Ends the session on the server. A session that has ended already is not an error.
async fn end_session(server: ServerArgs, context: &Context) -> Result<(), CliError> {
    // By name, so that a key of the environment is not used.
    let server = ServerArgs { context: Some(context.name.clone()), endpoint: None, ..server };
    let mut client = Client::connect(&ConnectArgs { server, key: None }, None).await?;
    match client.renew_credential().await {
        Err(CliError::NotLoggedIn(_)) => return Ok(()),
        renewed => renewed?,
    }
    let request = client.unary_request(LogoutRequest { request_id: new_id().to_string() });
    match AuthServiceClient::new(client.channel()).logout(request).await {
        Err(status) if status.code() != Code::Unauthenticated => Err(client.failure(status)),
        Ok(_) | Err(_) => Ok(()),
    }
}
