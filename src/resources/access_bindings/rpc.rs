//! `AccessService` on the wire.

use std::sync::Arc;

use tonic::Request;

use super::domain::{self, Binding, Subject};
use crate::app::App;
use crate::db::page::PageSize;
use crate::error::Error;
use crate::pb::v1 as pb;
use crate::pb::v1::access_service_server::{AccessService, AccessServiceServer};
use crate::transport::call::{Reply, call, call_write, etag};
use crate::transport::wire;

/// The service.
#[derive(Debug)]
pub struct Access(Arc<App>);

/// The service, to be mounted.
pub fn service(app: &Arc<App>) -> AccessServiceServer<Access> {
    let limit = app.config.server.message_bytes_max();
    AccessServiceServer::new(Access(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl AccessService for Access {
    async fn set_gateway_role(
        &self,
        request: Request<pb::SetGatewayRoleRequest>,
    ) -> Reply<pb::SetGatewayRoleResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            let role = wire::role("role", req.role)?;
            let binding = domain::set(&ctx, required(req.subject)?, role, &req.etag).await?;
            Ok(pb::SetGatewayRoleResponse { gateway_role: Some(binding.into()) })
        })
        .await
    }

    async fn remove_gateway_role(
        &self,
        request: Request<pb::RemoveGatewayRoleRequest>,
    ) -> Reply<pb::RemoveGatewayRoleResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            domain::remove(&ctx, required(req.subject)?, &req.etag).await?;
            Ok(pb::RemoveGatewayRoleResponse {})
        })
        .await
    }

    async fn list_gateway_roles(
        &self,
        request: Request<pb::ListGatewayRolesRequest>,
    ) -> Reply<pb::ListGatewayRolesResponse> {
        call(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let subject = req.subject.map(subject).transpose()?;
            let (found, next_page_token) =
                domain::list(ctx, subject, size, &req.page_token).await?;
            let gateway_roles = found.into_iter().map(Into::into).collect();
            Ok(pb::ListGatewayRolesResponse { gateway_roles, next_page_token })
        })
        .await
    }
}

fn required(given: Option<pb::Subject>) -> Result<Subject, Error> {
    subject(given.unwrap_or_default())
}

fn subject(given: pb::Subject) -> Result<Subject, Error> {
    use pb::subject::Subject as Given;
    match given.subject {
        Some(Given::User(email)) if !email.is_empty() => Ok(Subject::User(email)),
        Some(Given::ServicePrincipal(name)) if !name.is_empty() => {
            Ok(Subject::ServicePrincipal(name))
        }
        _ => Err(Error::invalid("subject", "must name a user or a service principal")),
    }
}

impl From<Binding> for pb::GatewayRole {
    fn from(binding: Binding) -> Self {
        use pb::subject::Subject as Shown;
        let subject = match binding.subject {
            Subject::User(email) => Shown::User(email),
            Subject::ServicePrincipal(name) => Shown::ServicePrincipal(name),
        };
        Self {
            subject: Some(pb::Subject { subject: Some(subject) }),
            gateway: binding.gateway,
            role: pb::Role::from(binding.role).into(),
            etag: etag::of(binding.version),
        }
    }
}
