//! OIDC through the API, with issuers in a process of their own: two for logins of users, and one of workloads.

mod bearer;
mod exchange;
mod kinds;
mod linking;
mod login;
mod peculiarities;
mod roles;
mod trouble;

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use shoreguard::config::Config;
use shoreguard::feed;
use shoreguard::outbox::{AccessSubject, log_change};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::users::domain::{Email, id_by_email};
use tonic::{Response, Status};

use crate::oidc_provider::{self, Issuer, LoginRedirect};
use crate::support::server::{Caller, TestServer};

pub(crate) const BACK: &str = "https://console.example.com/back";
pub(crate) const AUDIENCE: &str = "https://sg.example.com";

/// Configures issuers for this test: `corp` vouches for addresses and assigns roles; `partner` does neither and has a
/// client without a secret; `ci` has no logins of users.
pub(crate) fn configure_issuers(config: &mut Config) {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let base = format!("{}/{}", oidc_provider::base_url(), NEXT.fetch_add(1, Ordering::Relaxed));
    let text = format!(
        r#"
        [oidc]
        allowed_networks = ["127.0.0.0/8"]

        [[oidc.providers]]
        name = "corp"
        display_name = "The Corporation"
        issuer = "{base}-corp"
        client_id = "shoreguard"
        client_secret = "client secret"
        redirect_uris = ["{BACK}"]
        loopback_redirects = true
        email_domains = ["corp.example"]
        role_claim = "groups"
        roles = {{ ops = "operator", all = "viewer" }}
        audience = "{AUDIENCE}"
        accept_bearer = true

        [[oidc.providers.rules]]
        name = "deploy"
        conditions = {{ repository = "acme/infra", ref = ["refs/heads/main", "refs/tags/v*"] }}
        role = "operator"

        [[oidc.providers.rules]]
        name = "robots"
        conditions = {{ sub = "robot-*" }}
        service_principal = "robots"

        [[oidc.providers]]
        name = "partner"
        issuer = "{base}-partner"
        client_id = "shoreguard"
        redirect_uris = ["{BACK}"]

        [[oidc.providers]]
        name = "ci"
        issuer = "{base}-ci"

        [[oidc.providers.rules]]
        name = "look"
        audience = "https://look.example.com"
        conditions = {{ environment = "prod" }}
        role = "viewer"
        "#
    );
    config.oidc = Config::from_toml(&text).unwrap().oidc;
}

pub(crate) type LoginResult = Result<pb::CompleteOidcLoginResponse, Status>;

impl TestServer {
    pub(crate) fn issuer(&self, provider: &str) -> Issuer {
        Issuer::from_config(&self.app.config, provider)
    }

    pub(crate) async fn begin_login(&self, provider: &str) -> pb::BeginOidcLoginResponse {
        let request = pb::BeginOidcLoginRequest {
            provider: provider.to_owned(),
            redirect_uri: BACK.to_owned(),
        };
        self.anonymous().auth().begin_oidc_login(request).await.unwrap().into_inner()
    }

    pub(crate) async fn complete_login(
        &self,
        login_token: &str,
        back: &LoginRedirect,
    ) -> LoginResult {
        let request = completion_request(login_token, back);
        let answer = self.anonymous().auth().complete_oidc_login(request).await;
        answer.map(Response::into_inner)
    }

    /// Does a complete login.
    pub(crate) async fn oidc_login(&self, provider: &str) -> LoginResult {
        let begun = self.begin_login(provider).await;
        let back = self.issuer(provider).log_in(&begun.authorization_url).await;
        self.complete_login(&begun.login_token, &back).await
    }

    /// Logs in a person with a verified address.
    pub(crate) async fn log_in_as(
        &self,
        provider: &str,
        sub: &str,
        email: &str,
        more: Value,
    ) -> LoginResult {
        self.issuer(provider).set_person(sub, email, more).await;
        self.oidc_login(provider).await
    }

    pub(crate) async fn exchange(
        &self,
        provider: &str,
        token: &str,
    ) -> Result<pb::ExchangeOidcTokenResponse, Status> {
        let (provider, token) = (provider.to_owned(), token.to_owned());
        let request = pb::ExchangeOidcTokenRequest { provider, token };
        let answer = self.anonymous().auth().exchange_oidc_token(request).await;
        answer.map(Response::into_inner)
    }

    /// Changes a user directly in the database, with the same entry in the change log as the API writes.
    pub(crate) async fn set_user(&self, email: &str, set: &str) {
        let changed = self.sql(&format!("UPDATE users SET {set} WHERE email = '{email}'")).await;
        assert_eq!(changed, 1, "{email}");
        let (email, now) = (Email::parse("email", email).unwrap(), self.app.clock.now());
        self.app
            .db
            .transaction(async |conn| {
                let id = id_by_email(conn, &email).await?;
                log_change(conn, AccessSubject::User(id), now).await
            })
            .await
            .unwrap();
        feed::refresh(&self.app).await.unwrap();
    }

    /// Returns the details of the audit entries of an action, newest first.
    pub(crate) async fn audit_details(&self, action: &str) -> Vec<String> {
        self.app.audit.wait_settled().await;
        let request =
            pb::ListAuditEntriesRequest { action: action.to_owned(), ..Default::default() };
        let entries = self.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
        // The first admin logs in with a password.
        let by_password = "/shoreguard.v1.AuthService/Login";
        let entries = entries.audit_entries.into_iter().filter(|entry| entry.method != by_password);
        entries.map(|entry| entry.detail_json).collect()
    }
}

impl Caller {
    pub(crate) async fn current_identity(&self) -> Result<pb::GetCurrentIdentityResponse, Status> {
        let request = pb::GetCurrentIdentityRequest {};
        self.auth().get_current_identity(request).await.map(Response::into_inner)
    }
}

pub(crate) fn completion_request(
    login_token: &str,
    back: &LoginRedirect,
) -> pb::CompleteOidcLoginRequest {
    pb::CompleteOidcLoginRequest {
        login_token: login_token.to_owned(),
        code: back.code.clone(),
        state: back.state.clone(),
        issuer: back.issuer.clone(),
    }
}
