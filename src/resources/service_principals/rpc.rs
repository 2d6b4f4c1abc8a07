//! gRPC implementation of `ServicePrincipalService`.

use std::sync::Arc;

use tonic::Request;

use super::domain::{self, ServicePrincipal, ServicePrincipalUpdate};
use crate::app::App;
use crate::db::page::PageSize;
use crate::db::types::UserId;
use crate::error::Error;
use crate::etag;
use crate::names::{self, Name};
use crate::pb::v1 as pb;
use crate::pb::v1::service_principal_service_server::{
    ServicePrincipalService, ServicePrincipalServiceServer,
};
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::wire;

/// The `ServicePrincipalService` implementation.
#[derive(Debug)]
pub struct ServicePrincipals(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> ServicePrincipalServiceServer<ServicePrincipals> {
    let limit = app.config.server.message_bytes_max();
    ServicePrincipalServiceServer::new(ServicePrincipals(Arc::clone(app)))
        .max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl ServicePrincipalService for ServicePrincipals {
    async fn create_service_principal(
        &self,
        request: Request<pb::CreateServicePrincipalRequest>,
    ) -> Reply<pb::CreateServicePrincipalResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let name = Name::parse("name", &req.name)?;
            let role = wire::parse_role("role", req.role)?;
            let expires_at =
                req.expire_time.map(|at| wire::parse_timestamp("expire_time", at)).transpose()?;
            let (created, key) = domain::create(&ctx, &name, role, expires_at).await?;
            Ok(pb::CreateServicePrincipalResponse {
                service_principal: Some(created.into()),
                key: key.expose().to_owned(),
            })
        })
        .await
    }

    async fn get_service_principal(
        &self,
        request: Request<pb::GetServicePrincipalRequest>,
    ) -> Reply<pb::GetServicePrincipalResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let found = domain::get(
                ctx,
                &names::check_lookup_name("service_principal", req.service_principal)?,
            )
            .await?;
            Ok(pb::GetServicePrincipalResponse { service_principal: Some(found.into()) })
        })
        .await
    }

    async fn list_service_principals(
        &self,
        request: Request<pb::ListServicePrincipalsRequest>,
    ) -> Reply<pb::ListServicePrincipalsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) = domain::list(ctx, size, &req.page_token).await?;
            let service_principals = page.into_iter().map(Into::into).collect();
            Ok(pb::ListServicePrincipalsResponse { service_principals, next_page_token })
        })
        .await
    }

    async fn update_service_principal(
        &self,
        request: Request<pb::UpdateServicePrincipalRequest>,
    ) -> Reply<pb::UpdateServicePrincipalResponse> {
        handle_write(&self.0, request, async move |ctx, mut req| {
            let name = names::check_lookup_name(
                "service_principal",
                std::mem::take(&mut req.service_principal),
            )?;
            let given_etag = std::mem::take(&mut req.etag);
            let updated = domain::update(&ctx, &name, req.try_into()?, &given_etag).await?;
            Ok(pb::UpdateServicePrincipalResponse { service_principal: Some(updated.into()) })
        })
        .await
    }

    async fn rotate_service_principal(
        &self,
        request: Request<pb::RotateServicePrincipalRequest>,
    ) -> Reply<pb::RotateServicePrincipalResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let name = names::check_lookup_name("service_principal", req.service_principal)?;
            let overlap = wire::parse_duration("overlap", req.overlap.unwrap_or_default())?;
            let overlap = domain::overlap("overlap", overlap)?;
            let (rotated, key) = domain::rotate(&ctx, &name, overlap, &req.etag).await?;
            Ok(pb::RotateServicePrincipalResponse {
                service_principal: Some(rotated.into()),
                key: key.expose().to_owned(),
            })
        })
        .await
    }

    async fn delete_service_principal(
        &self,
        request: Request<pb::DeleteServicePrincipalRequest>,
    ) -> Reply<pb::DeleteServicePrincipalResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let name = names::check_lookup_name("service_principal", req.service_principal)?;
            domain::delete(&ctx, &name, &req.etag).await?;
            Ok(pb::DeleteServicePrincipalResponse {})
        })
        .await
    }
}

impl TryFrom<pb::UpdateServicePrincipalRequest> for ServicePrincipalUpdate {
    type Error = Error;

    fn try_from(req: pb::UpdateServicePrincipalRequest) -> Result<Self, Error> {
        let mut change = Self::default();
        for path in wire::mask_paths(req.update_mask)? {
            match path.as_str() {
                "role" => change.role = Some(wire::parse_role("role", req.role)?),
                "expire_time" => {
                    let at = req.expire_time.map(|at| wire::parse_timestamp("expire_time", at));
                    change.expires_at = Some(at.transpose()?);
                }
                other => return Err(wire::unchangeable_path(other)),
            }
        }
        Ok(change)
    }
}

impl From<ServicePrincipal> for pb::ServicePrincipal {
    fn from(found: ServicePrincipal) -> Self {
        Self {
            id: found.id.get(),
            name: found.name,
            role: pb::Role::from(found.role).into(),
            key_prefix: found.key_prefix,
            created_by: found.created_by.map(UserId::get).unwrap_or_default(),
            create_time: Some(wire::to_timestamp(found.created_at)),
            last_used_time: found.last_used.map(wire::to_timestamp),
            expire_time: found.expires_at.map(wire::to_timestamp),
            etag: etag::from_version(found.version),
            previous_key_expire_time: found.previous_ends_at.map(wire::to_timestamp),
        }
    }
}
