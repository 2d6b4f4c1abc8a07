//! A login at an OIDC provider, in a browser on this host.
//!
//! The server makes the state, the nonce and the PKCE verifier, and seals them into the login token, which never leaves
//! this process but to the server. The state that the browser returns is checked here, and again by the server.

use std::time::Duration;

use super::super::connect::{Client, Credential, Session};
use super::super::{CliError, output};
use super::browser;
use super::loopback::{Loopback, Return, state_of};
use crate::clock::{Clock, Timestamp};
use crate::pb::v1::{
    BeginOidcLoginRequest, BeginOidcLoginResponse, CompleteOidcLoginRequest,
    ListOidcProvidersRequest,
};

/// How long to wait if the server does not say until when the login can be completed.
const LOGIN_TIME: Duration = Duration::from_mins(10);

/// Logs in at a provider, or at the only one if the name is empty.
pub(super) async fn log_in(
    client: &Client,
    provider: &str,
    opens_browser: bool,
) -> Result<Credential, CliError> {
    let provider = find_provider(client, provider).await?;
    let page = Loopback::bind().await?;
    let redirect_uri = page.uri().to_owned();
    let (mut auth, request) = client.public(BeginOidcLoginRequest { provider, redirect_uri });
    let begun = auth.begin_oidc_login(request).await;
    let begun = begun.map_err(|status| client.failure(status))?.into_inner();
    let url = &begun.authorization_url;
    let state = state_of(url)
        .ok_or_else(|| CliError::Io("the server returned an unusable URL".to_owned()))?;
    output::print_error(&format!(
        "Log in with a browser on this host (on a host without one, use `--device`):\n  {url}"
    ));
    if opens_browser {
        browser::open(url);
    }
    let Ok(returned) = tokio::time::timeout(time_left(&begun), page.wait(&state)).await else {
        return Err(CliError::NotLoggedIn("the browser did not return in time".to_owned()));
    };
    let returned = returned?;
    let done = complete(client, begun.login_token, &returned).await;
    returned.respond(done.is_ok()).await;
    done
}

/// Returns the name of the provider, which must be the only one if none is given.
async fn find_provider(client: &Client, name: &str) -> Result<String, CliError> {
    if !name.is_empty() {
        return Ok(name.to_owned());
    }
    let (mut auth, request) = client.public(ListOidcProvidersRequest {});
    let listed = auth.list_oidc_providers(request).await;
    let listed = listed.map_err(|status| client.failure(status))?.into_inner();
    let names: Vec<String> =
        listed.oidc_providers.into_iter().map(|provider| provider.name).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(CliError::Usage("the server has no OIDC provider".to_owned())),
        [..] => {
            let names = names.join("`, `");
            Err(CliError::Usage(format!("name one of the providers with `--oidc`: `{names}`")))
        }
    }
}

fn time_left(begun: &BeginOidcLoginResponse) -> Duration {
    let until = begun.expire_time.map(|time| Timestamp::from_unix_seconds(time.seconds));
    // The clocks of the two hosts can differ: the server decides whether it is too late.
    until.map_or(LOGIN_TIME, |until| until.since(Clock::system().now()).max(LOGIN_TIME))
}

async fn complete(
    client: &Client,
    login_token: String,
    returned: &Return,
) -> Result<Credential, CliError> {
    let error = returned.parameter("error");
    if !error.is_empty() {
        let more = returned.parameter("error_description");
        let why = if more.is_empty() { error.to_owned() } else { format!("{error}: {more}") };
        return Err(CliError::NotLoggedIn(format!("the provider refused the login: {why}")));
    }
    let (mut auth, request) = client.public(CompleteOidcLoginRequest {
        login_token,
        code: returned.parameter("code").to_owned(),
        state: returned.parameter("state").to_owned(),
        issuer: returned.parameter("iss").to_owned(),
    });
    let answer = auth.complete_oidc_login(request).await;
    let answer = answer.map_err(|status| client.failure(status))?.into_inner();
    Ok(Credential::Session(Session::from_response(
        answer.session_token,
        answer.expire_time,
        answer.refresh_token,
        answer.refresh_expire_time,
    )))
}
