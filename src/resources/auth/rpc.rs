//! gRPC implementation of `AuthService`.

use std::sync::Arc;

use tonic::Request;

use super::device::DeviceSession;
use super::messages::{decision, login_completion};
use super::{device, domain, oidc};
use crate::access::principal::Caller;
use crate::app::App;
use crate::db::page::{PAGE_SIZE_MAX, PageSize};
use crate::db::types::SessionId;
use crate::error::Error;
use crate::oidc::Provider;
use crate::pb::v1 as pb;
use crate::pb::v1::auth_service_server::{AuthService, AuthServiceServer};
use crate::resources::device_codes::decide;
use crate::resources::device_codes::domain::UserCode;
use crate::resources::sessions::{self, SessionInfo};
use crate::resources::users;
use crate::resources::users::domain::Email;
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::{idempotency, wire};
use crate::secret::Secret;

/// The `AuthService` implementation.
#[derive(Debug)]
pub struct Auth(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> AuthServiceServer<Auth> {
    let limit = app.config.server.message_bytes_max();
    AuthServiceServer::new(Auth(Arc::clone(app))).max_decoding_message_size(limit)
}

/// Builds a response with a session: several RPCs have a response message with the same fields.
macro_rules! answer {
    ($message:ident, $session:ident $(, $field:ident)?) => {
        pb::$message {
            $($field,)?
            session_token: $session.token.expose().to_owned(),
            expire_time: Some(wire::to_timestamp($session.expires_at)),
            role: pb::Role::from($session.role).into(),
            refresh_token: $session.refresh_token.expose().to_owned(),
            refresh_expire_time: Some(wire::to_timestamp($session.refresh_expires_at)),
        }
    };
}

/// Rejects an idempotency key. The call ends the credential that a repeat would be made with, and the tokens of the
/// response must not be returned to another one (T17).
fn check_no_request_id(request_id: &str) -> Result<(), Error> {
    if request_id.is_empty() {
        return Ok(());
    }
    let why = "must be empty: a repeat cannot return the tokens again; if the response was lost, log in with the new \
               password";
    Err(Error::invalid("request_id", why))
}

#[tonic::async_trait]
impl AuthService for Auth {
    async fn get_server_info(
        &self,
        request: Request<pb::GetServerInfoRequest>,
    ) -> Reply<pb::GetServerInfoResponse> {
        handle_read(&self.0, request, async |anonymous, _| {
            let app = anonymous.app();
            let set_up = users::store::has_any(&mut app.db.read().await?).await?;
            let u32_of = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let request_id_seconds =
                u32::try_from(idempotency::RETENTION.as_secs()).map_err(Error::internal)?;
            Ok(pb::GetServerInfoResponse {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                set_up,
                registration_enabled: set_up && app.config.auth.self_registration,
                device_login_enabled: app.config.auth.device_login,
                wire_generations: vec!["0.0".to_owned(), "0.1".to_owned()],
                limits: Some(pb::ServerLimits {
                    page_size_max: PAGE_SIZE_MAX,
                    message_bytes_max: u32_of(app.config.server.message_bytes_max()),
                    request_id_seconds,
                }),
            })
        })
        .await
    }

    async fn setup(&self, request: Request<pb::SetupRequest>) -> Reply<pb::SetupResponse> {
        handle_write(&self.0, request, async move |anonymous, req| {
            let email = Email::parse_new("email", &req.email)?;
            let (token, password) = (Secret::new(req.setup_token), Secret::new(req.password));
            let id = domain::set_up(anonymous, token, &email, password).await?;
            Ok(pb::SetupResponse { user_id: id.get(), email: email.as_str().to_owned() })
        })
        .await
    }

    async fn accept_invite(
        &self,
        request: Request<pb::AcceptInviteRequest>,
    ) -> Reply<pb::AcceptInviteResponse> {
        handle_write(&self.0, request, async move |anonymous, req| {
            let (token, password) = (Secret::new(req.invite_token), Secret::new(req.password));
            let session = domain::accept_invite(anonymous, &token, password).await?;
            Ok(answer!(AcceptInviteResponse, session))
        })
        .await
    }

    async fn register(&self, request: Request<pb::RegisterRequest>) -> Reply<pb::RegisterResponse> {
        handle_write(&self.0, request, async move |anonymous, req| {
            let email = Email::parse_new("email", &req.email)?;
            let session = domain::register(anonymous, &email, Secret::new(req.password)).await?;
            Ok(answer!(RegisterResponse, session))
        })
        .await
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Reply<pb::LoginResponse> {
        handle_write(&self.0, request, async move |anonymous, req| {
            let session = domain::login(anonymous, &req.email, Secret::new(req.password)).await?;
            Ok(answer!(LoginResponse, session))
        })
        .await
    }

    async fn refresh_session(
        &self,
        request: Request<pb::RefreshSessionRequest>,
    ) -> Reply<pb::RefreshSessionResponse> {
        handle_write(&self.0, request, async move |anonymous, req| {
            let session = domain::refresh(anonymous, Secret::new(req.refresh_token)).await?;
            Ok(answer!(RefreshSessionResponse, session))
        })
        .await
    }

    async fn logout(&self, request: Request<pb::LogoutRequest>) -> Reply<pb::LogoutResponse> {
        handle_write(&self.0, request, async move |ctx, _| {
            domain::logout(&ctx).await?;
            Ok(pb::LogoutResponse {})
        })
        .await
    }

    async fn change_password(
        &self,
        request: Request<pb::ChangePasswordRequest>,
    ) -> Reply<pb::ChangePasswordResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            check_no_request_id(&req.request_id)?;
            let (current, new) = (Secret::new(req.current_password), Secret::new(req.new_password));
            let session = domain::change_password(&ctx, current, new).await?;
            Ok(pb::ChangePasswordResponse {
                session_token: session.token.expose().to_owned(),
                expire_time: Some(wire::to_timestamp(session.expires_at)),
                refresh_token: session.refresh_token.expose().to_owned(),
                refresh_expire_time: Some(wire::to_timestamp(session.refresh_expires_at)),
            })
        })
        .await
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Reply<pb::ListSessionsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) =
                sessions::list(ctx, ctx.user()?, size, &req.page_token).await?;
            let current = ctx.caller().and_then(Caller::session);
            let shown = |session: SessionInfo| {
                let current = current == Some(session.id);
                pb::Session { current, ..session.into() }
            };
            let sessions = page.into_iter().map(shown).collect();
            Ok(pb::ListSessionsResponse { sessions, next_page_token })
        })
        .await
    }

    async fn revoke_session(
        &self,
        request: Request<pb::RevokeSessionRequest>,
    ) -> Reply<pb::RevokeSessionResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            ctx.add_audit_detail("session", req.session_id);
            sessions::revoke(&ctx, ctx.user()?, SessionId(req.session_id)).await?;
            Ok(pb::RevokeSessionResponse {})
        })
        .await
    }

    async fn list_oidc_providers(
        &self,
        request: Request<pb::ListOidcProvidersRequest>,
    ) -> Reply<pb::ListOidcProvidersResponse> {
        handle_read(&self.0, request, async |anonymous, _| {
            let all =
                anonymous.app().authn.oidc.all().iter().filter(|provider| provider.has_login());
            let shown = |provider: &Arc<Provider>| pb::OidcProvider {
                name: provider.config.name.clone(),
                display_name: provider.config.display_name().to_owned(),
            };
            Ok(pb::ListOidcProvidersResponse { oidc_providers: all.map(shown).collect() })
        })
        .await
    }

    async fn begin_oidc_login(
        &self,
        request: Request<pb::BeginOidcLoginRequest>,
    ) -> Reply<pb::BeginOidcLoginResponse> {
        handle_write(&self.0, request, async move |anonymous, req| {
            let begun = oidc::begin_login(anonymous, &req.provider, &req.redirect_uri).await?;
            Ok(pb::BeginOidcLoginResponse {
                authorization_url: begun.authorization_url,
                login_token: begun.login_token.expose().to_owned(),
                expire_time: Some(wire::to_timestamp(begun.expires_at)),
            })
        })
        .await
    }

    async fn complete_oidc_login(
        &self,
        request: Request<pb::CompleteOidcLoginRequest>,
    ) -> Reply<pb::CompleteOidcLoginResponse> {
        handle_write(&self.0, request, async move |anonymous, req| {
            let ended = login_completion(req.login_token, req.code, req.state, req.issuer);
            let session = oidc::complete_login(anonymous, &ended).await?;
            Ok(answer!(CompleteOidcLoginResponse, session))
        })
        .await
    }

    async fn exchange_oidc_token(
        &self,
        request: Request<pb::ExchangeOidcTokenRequest>,
    ) -> Reply<pb::ExchangeOidcTokenResponse> {
        handle_write(&self.0, request, async move |anonymous, req| {
            let token = Secret::new(req.token);
            let got = oidc::exchange::exchange(anonymous, &req.provider, &token).await?;
            Ok(pb::ExchangeOidcTokenResponse {
                session_token: got.token.expose().to_owned(),
                expire_time: Some(wire::to_timestamp(got.expires_at)),
                service_principal: got.service_principal,
                role: pb::Role::from(got.role).into(),
            })
        })
        .await
    }

    async fn link_oidc_identity(
        &self,
        request: Request<pb::LinkOidcIdentityRequest>,
    ) -> Reply<pb::LinkOidcIdentityResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let ended = login_completion(req.login_token, req.code, req.state, req.issuer);
            let provider = oidc::link::link(&ctx, &ended).await?;
            Ok(pb::LinkOidcIdentityResponse { provider })
        })
        .await
    }

    async fn unlink_oidc_identity(
        &self,
        request: Request<pb::UnlinkOidcIdentityRequest>,
    ) -> Reply<pb::UnlinkOidcIdentityResponse> {
        handle_write(&self.0, request, async move |ctx, _| {
            oidc::link::unlink(&ctx).await?;
            Ok(pb::UnlinkOidcIdentityResponse {})
        })
        .await
    }

    async fn approve_device(
        &self,
        request: Request<pb::ApproveDeviceRequest>,
    ) -> Reply<pb::ApproveDeviceResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let decision = decision(&req)?;
            let code = UserCode::parse("user_code", &req.user_code)?;
            Ok(decide::decide(&ctx, &code, decision).await?.into())
        })
        .await
    }

    async fn begin_device_login(
        &self,
        request: Request<pb::BeginDeviceLoginRequest>,
    ) -> Reply<pb::BeginDeviceLoginResponse> {
        handle_write(&self.0, request, async move |anonymous, _| {
            Ok(device::begin(anonymous).await?.into())
        })
        .await
    }

    async fn complete_device_login(
        &self,
        request: Request<pb::CompleteDeviceLoginRequest>,
    ) -> Reply<pb::CompleteDeviceLoginResponse> {
        handle_write(&self.0, request, async move |anonymous, req| {
            let code = Secret::new(req.device_code);
            let DeviceSession { session, email } = device::complete(anonymous, &code).await?;
            Ok(answer!(CompleteDeviceLoginResponse, session, email))
        })
        .await
    }

    async fn get_current_identity(
        &self,
        request: Request<pb::GetCurrentIdentityRequest>,
    ) -> Reply<pb::GetCurrentIdentityResponse> {
        handle_read(&self.0, request, async |ctx, _| {
            let found = domain::identity(ctx)?;
            let access = |(gateway, role): (Arc<str>, _)| pb::GatewayAccess {
                gateway: gateway.to_string(),
                role: pb::Role::from(role).into(),
            };
            Ok(pb::GetCurrentIdentityResponse {
                actor: found.actor.to_string(),
                principal: found.principal,
                role: pb::Role::from(found.role).into(),
                gateways: found.gateways.into_iter().map(access).collect(),
                gateways_cut: found.truncated,
                expire_time: found.expires_at.map(wire::to_timestamp),
                bound_gateway: found.bound_gateway.map(|name| name.to_string()).unwrap_or_default(),
            })
        })
        .await
    }
}
