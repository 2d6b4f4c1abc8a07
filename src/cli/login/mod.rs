//! `shoreguard login`: proves who the caller is, and stores the credential for further commands.
//!
//! Invariants
//! - no secret is an argument, or is written to the terminal or a log;
//! - a credential is stored only after the server has accepted it, with the endpoint that it is for.

mod browser;
mod destination;
mod device;
mod loopback;
mod oidc;
mod secrets;
mod started;

use clap::Args;

use super::connect::{Client, Context, Credential, Environment, ServerArgs, Session, Store};
use super::{CliError, input, output};
use crate::pb::v1::auth_service_client::AuthServiceClient;
use crate::pb::v1::{GetCurrentIdentityRequest, LoginRequest};

pub(super) use destination::{absolute, check_same_server};
pub(super) use secrets::read as read_secret;
pub(super) use started::{start, starts_session};

/// How to log in, and where.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct LoginArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// E-mail address of the account, for a password. It is prompted for if it is missing.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Logs in with a password, which is prompted for. The default.
    #[arg(long, group = "method")]
    password: bool,
    /// Logs in with a password from standard input.
    #[arg(long, group = "method")]
    password_stdin: bool,
    /// Stores an API key, which is prompted for on a terminal and read from standard input otherwise.
    #[arg(long, group = "method")]
    key: bool,
    /// Logs in at an OIDC provider, in a browser on this host. The name can be left out if there is only one.
    #[arg(long, group = "method", value_name = "PROVIDER", num_args = 0..=1, default_missing_value = "")]
    oidc: Option<String>,
    /// Logs in by a code, which you approve in a session on another host.
    #[arg(long, group = "method")]
    device: bool,
    /// Prints the URL of the provider, and does not open a browser.
    #[arg(long)]
    no_browser: bool,
}

/// Logs in.
pub(super) async fn run(args: LoginArgs) -> Result<(), CliError> {
    let store = Store::open();
    // Before a person types a password: whether the result can be stored.
    drop(store.lock(args.server.timeout()).await?);
    let environment = Environment::read()?;
    let context = destination::choose(&args.server, &environment, &store.contexts()?)?;
    if !args.key {
        keep_key(&store, &context, &args.server)?;
    }
    let server = ServerArgs {
        context: None,
        endpoint: Some(context.endpoint.clone()),
        ca: context.ca.clone(),
        ..args.server.clone()
    };
    let mut client = Client::connect_for_login(&server).await?;
    let credential = prove(&client, &args).await?;
    client.set_credential(credential.clone())?;
    let request = client.unary_request(GetCurrentIdentityRequest {});
    let identity = AuthServiceClient::new(client.channel()).get_current_identity(request).await;
    let identity = identity.map_err(|status| client.failure(status))?.into_inner();
    save(&store, &context, &credential).await?;
    if environment.key.is_some() {
        output::print_error(
            "warning: SHOREGUARD_KEY is set, and is used in place of this login: unset it",
        );
    }
    let (actor, name, endpoint) = (identity.actor, &context.name, &context.endpoint);
    Ok(output::print_result(&format!("{actor} is logged in to {endpoint}, context {name}"))?)
}

/// Returns a credential that the server has given, or a key that it has not seen yet.
async fn prove(client: &Client, args: &LoginArgs) -> Result<Credential, CliError> {
    if let Some(provider) = &args.oidc {
        return oidc::log_in(client, provider, !args.no_browser && output::can_ask()).await;
    }
    if args.device {
        return device::log_in(client).await;
    }
    if args.key {
        let key = if output::can_ask() {
            secrets::prompt("API key", "pipe it into the command")?
        } else {
            input::on_thread(|| secrets::read("API key")).await??
        };
        return Ok(Credential::Key(key));
    }
    log_in_with_password(client, args).await
}

async fn log_in_with_password(client: &Client, args: &LoginArgs) -> Result<Credential, CliError> {
    let email = match &args.email {
        Some(email) => email.clone(),
        None => secrets::ask("E-mail address:", "--email").await?,
    };
    let password = if args.password || !args.password_stdin {
        secrets::prompt("password", "use `--password-stdin`")?
    } else {
        input::on_thread(|| secrets::read("password")).await??
    };
    let (mut auth, request) =
        client.public(LoginRequest { email, password: password.expose().to_owned() });
    let answer = auth.login(request).await.map_err(|status| client.failure(status))?.into_inner();
    Ok(Credential::Session(Session::from_response(
        answer.session_token,
        answer.expire_time,
        answer.refresh_token,
        answer.refresh_expire_time,
    )))
}

/// Refuses to replace an API key, which is displayed only once, by a session, unless the context was chosen by name.
fn keep_key(store: &Store, context: &Context, server: &ServerArgs) -> Result<(), CliError> {
    let is_key = matches!(store.credential(context)?, Some(Credential::Key(_)));
    if !is_key || server.context.is_some() {
        return Ok(());
    }
    let name = &context.name;
    Err(CliError::Usage(format!(
        "context `{name}` holds an API key, which this login would replace: name a new context with \
         `--context`, or use `shoreguard logout --context {name}` first"
    )))
}

/// Stores the context, which becomes the current one, and the credential.
async fn save(store: &Store, context: &Context, credential: &Credential) -> Result<(), CliError> {
    // The credential is nowhere else, so the timeout of the user does not apply.
    let lock = store.lock(None).await?;
    let mut contexts = lock.contexts()?;
    // Another program can have stored a context of this name since it was chosen.
    if let Some(known) = contexts.get(&context.name)? {
        check_same_server(&known, &context.endpoint)?;
    }
    contexts.put(context);
    contexts.set_current(&context.name);
    lock.begin_credentials()?.put(context, credential)?;
    lock.write_contexts(&contexts)
}
