//! Workload templates, and the staging of images, which can only be started.

use tonic::Status;

use super::scope::{deletion_outcome, list_workspace, single_workspace};
use super::{GatewayV0_1, render};
use crate::state::{Meta, Page};
use shoreguard_proto::v0_1::openshell::v1 as pb;

type RpcResult<T> = Result<T, Status>;

/// Maximum size of a staged image, in bytes.
const STAGING_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

pub(super) fn create(
    gateway: &GatewayV0_1,
    request: pb::CreateSandboxTemplateRequest,
) -> RpcResult<pb::SandboxTemplateResponse> {
    let workspace = single_workspace(request.workspace_scope)?;
    let Some(template) = request.template else {
        return Err(Status::invalid_argument("template is required"));
    };
    let given = template.metadata.unwrap_or_default();
    let meta = Meta { labels: given.labels, ..Meta::new(&workspace, &given.name) };
    let spec = template.spec.unwrap_or_default();
    let kept = gateway.core.with(|state| state.create_template(&workspace, meta, spec))?;
    Ok(pb::SandboxTemplateResponse { template: Some(render::template(&kept)) })
}

pub(super) fn get(
    gateway: &GatewayV0_1,
    request: pb::GetSandboxTemplateRequest,
) -> RpcResult<pb::SandboxTemplateResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.name);
    let kept = gateway.core.with(|state| state.get_template(&at))?;
    Ok(pb::SandboxTemplateResponse { template: Some(render::template(&kept)) })
}

pub(super) fn list(
    gateway: &GatewayV0_1,
    request: pb::ListSandboxTemplatesRequest,
) -> RpcResult<pb::ListSandboxTemplatesResponse> {
    let workspace = list_workspace(request.workspace_scope);
    let page = Page::from_token(&request.page_token, request.page_size)?;
    let (found, next_page_token) = gateway
        .core
        .with(|state| state.list_templates(workspace.as_deref(), &request.label_selector, page))?;
    let templates = found.iter().map(render::template).collect();
    Ok(pb::ListSandboxTemplatesResponse { templates, next_page_token })
}

pub(super) fn delete(
    gateway: &GatewayV0_1,
    request: pb::DeleteSandboxTemplateRequest,
) -> RpcResult<pb::DeleteSandboxTemplateResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.name);
    let deleted = gateway.core.with(|state| state.delete_template(&at))?;
    let outcome = deletion_outcome("template", deleted, request.allow_missing)?;
    Ok(pb::DeleteSandboxTemplateResponse { outcome })
}

/// Starts staging an image. The upload itself is not implemented: the returned path is not served.
pub(super) fn begin_staging(
    gateway: &GatewayV0_1,
    request: pb::BeginRootfsTarStagingRequest,
) -> RpcResult<pb::BeginRootfsTarStagingResponse> {
    let workspace = single_workspace(request.workspace_scope)?;
    gateway.core.with(|state| state.workspace(&workspace))?;
    if request.file_name.is_empty() || request.size_bytes > STAGING_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "file_name is required, and at most {STAGING_BYTES_MAX} bytes"
        )));
    }
    let staging = Meta::new(&workspace, &request.file_name);
    Ok(pb::BeginRootfsTarStagingResponse {
        upload_path: format!("/staging/{}", staging.id),
        staging_token: staging.id,
        max_bytes: STAGING_BYTES_MAX,
        expiration_time: super::scope::to_timestamp(staging.created_ms + 3_600_000),
    })
}
