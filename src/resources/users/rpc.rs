//! gRPC implementation of `UserService`.

use std::sync::Arc;

use tonic::Request;

use super::changes::UserUpdate;
use super::domain::{self, Email, Filter, User, UserRef};
use super::{changes, invite};
use crate::app::App;
use crate::db::page::PageSize;
use crate::db::types::SessionId;
use crate::error::Error;
use crate::etag;
use crate::pb::v1 as pb;
use crate::pb::v1::user_service_server::{UserService, UserServiceServer};
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::wire;

/// The `UserService` implementation.
#[derive(Debug)]
pub struct Users(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> UserServiceServer<Users> {
    let limit = app.config.server.message_bytes_max();
    UserServiceServer::new(Users(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl UserService for Users {
    async fn invite_user(
        &self,
        request: Request<pb::InviteUserRequest>,
    ) -> Reply<pb::InviteUserResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let email = Email::parse_new("email", &req.email)?;
            let role = wire::parse_role("role", req.role)?;
            let (user, token) = invite::invite(&ctx, &email, role).await?;
            Ok(pb::InviteUserResponse {
                user: Some(user.into()),
                invite_token: token.expose().to_owned(),
            })
        })
        .await
    }

    async fn get_user(&self, request: Request<pb::GetUserRequest>) -> Reply<pb::GetUserResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let found = domain::get(ctx, &UserRef::parse("user", &req.user)?).await?;
            Ok(pb::GetUserResponse { user: Some(found.into()) })
        })
        .await
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Reply<pb::ListUsersResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let filter = Filter::try_from(&req)?;
            let (page, next_page_token) = domain::list(ctx, filter, size, &req.page_token).await?;
            let users = page.into_iter().map(Into::into).collect();
            Ok(pb::ListUsersResponse { users, next_page_token })
        })
        .await
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Reply<pb::UpdateUserResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let named = UserRef::parse("user", &req.user)?;
            let etag = req.etag.clone();
            let updated = changes::update(&ctx, &named, UserUpdate::try_from(req)?, &etag).await?;
            Ok(pb::UpdateUserResponse { user: Some(updated.into()) })
        })
        .await
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Reply<pb::DeleteUserResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            changes::delete(&ctx, &UserRef::parse("user", &req.user)?, &req.etag).await?;
            Ok(pb::DeleteUserResponse {})
        })
        .await
    }

    async fn resend_invite(
        &self,
        request: Request<pb::ResendInviteRequest>,
    ) -> Reply<pb::ResendInviteResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let (user, token) = invite::resend(&ctx, &UserRef::parse("user", &req.user)?).await?;
            Ok(pb::ResendInviteResponse {
                user: Some(user.into()),
                invite_token: token.expose().to_owned(),
            })
        })
        .await
    }

    async fn reset_password(
        &self,
        request: Request<pb::ResetPasswordRequest>,
    ) -> Reply<pb::ResetPasswordResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let named = UserRef::parse("user", &req.user)?;
            let (user, token) = changes::reset_password(&ctx, &named, &req.etag).await?;
            Ok(pb::ResetPasswordResponse {
                user: Some(user.into()),
                reset_token: token.expose().to_owned(),
            })
        })
        .await
    }

    async fn unlock_user(
        &self,
        request: Request<pb::UnlockUserRequest>,
    ) -> Reply<pb::UnlockUserResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            changes::unlock(&ctx, &UserRef::parse("user", &req.user)?).await?;
            Ok(pb::UnlockUserResponse {})
        })
        .await
    }

    async fn list_user_sessions(
        &self,
        request: Request<pb::ListUserSessionsRequest>,
    ) -> Reply<pb::ListUserSessionsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let named = UserRef::parse("user", &req.user)?;
            let (page, next_page_token) =
                changes::list_sessions(ctx, &named, size, &req.page_token).await?;
            let sessions = page.into_iter().map(Into::into).collect();
            Ok(pb::ListUserSessionsResponse { sessions, next_page_token })
        })
        .await
    }

    async fn revoke_user_sessions(
        &self,
        request: Request<pb::RevokeUserSessionsRequest>,
    ) -> Reply<pb::RevokeUserSessionsResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let named = UserRef::parse("user", &req.user)?;
            let only = (req.session_id != 0).then_some(SessionId(req.session_id));
            let ended = changes::revoke_sessions(&ctx, &named, only).await?;
            let revoked_count = i32::try_from(ended).map_err(Error::internal)?;
            Ok(pb::RevokeUserSessionsResponse { revoked_count })
        })
        .await
    }
}

impl TryFrom<&pb::ListUsersRequest> for Filter {
    type Error = Error;

    fn try_from(req: &pb::ListUsersRequest) -> Result<Self, Error> {
        let said = req.role != pb::Role::Unspecified as i32;
        Ok(Self {
            role: said.then(|| wire::parse_role("role", req.role)).transpose()?,
            is_active: req.is_active,
            pending_invite: req.pending_invite,
        })
    }
}

impl TryFrom<pb::UpdateUserRequest> for UserUpdate {
    type Error = Error;

    fn try_from(req: pb::UpdateUserRequest) -> Result<Self, Error> {
        let mut change = Self::default();
        for path in wire::mask_paths(req.update_mask)? {
            match path.as_str() {
                "role" => change.role = Some(wire::parse_role("role", req.role)?),
                "is_active" => change.is_active = Some(req.is_active),
                other => return Err(wire::unchangeable_path(other)),
            }
        }
        Ok(change)
    }
}

impl From<User> for pb::User {
    fn from(user: User) -> Self {
        Self {
            id: user.id.get(),
            email: user.email,
            role: pb::Role::from(user.role).into(),
            effective_role: pb::Role::from(user.effective_role).into(),
            is_active: user.is_active,
            pending_invite: user.pending_invite,
            has_password: user.has_password,
            oidc_provider: user.oidc_provider.unwrap_or_default(),
            create_time: Some(wire::to_timestamp(user.created_at)),
            invite_expire_time: user.invite_expires_at.map(wire::to_timestamp),
            etag: etag::from_version(user.version),
        }
    }
}
