//! Workload templates, and the staging of images, which can only be started.

use tonic::Status;

use super::scope::{one, outcome, some};
use super::{V01, render};
use crate::state::{Meta, Page};
use shoreguard_proto::v0_1::openshell::v1 as pb;

type Answer<T> = Result<T, Status>;

/// Maximum size of a staged image, in bytes.
const STAGING_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

pub(super) fn create(
    gateway: &V01,
    ask: pb::CreateSandboxTemplateRequest,
) -> Answer<pb::SandboxTemplateResponse> {
    let workspace = one(ask.workspace_scope)?;
    let Some(template) = ask.template else {
        return Err(Status::invalid_argument("template is required"));
    };
    let given = template.metadata.unwrap_or_default();
    let meta = Meta { labels: given.labels, ..Meta::new(&workspace, &given.name) };
    let spec = template.spec.unwrap_or_default();
    let kept = gateway.core.with(|state| state.create_template(&workspace, meta, spec))?;
    Ok(pb::SandboxTemplateResponse { template: Some(render::template(&kept)) })
}

pub(super) fn get(
    gateway: &V01,
    ask: pb::GetSandboxTemplateRequest,
) -> Answer<pb::SandboxTemplateResponse> {
    let at = (one(ask.workspace_scope)?, ask.name);
    let kept = gateway.core.with(|state| state.get_template(&at))?;
    Ok(pb::SandboxTemplateResponse { template: Some(render::template(&kept)) })
}

pub(super) fn list(
    gateway: &V01,
    ask: pb::ListSandboxTemplatesRequest,
) -> Answer<pb::ListSandboxTemplatesResponse> {
    let workspace = some(ask.workspace_scope);
    let page = Page::of_token(&ask.page_token, ask.page_size)?;
    let (found, next_page_token) = gateway
        .core
        .with(|state| state.list_templates(workspace.as_deref(), &ask.label_selector, page))?;
    let templates = found.iter().map(render::template).collect();
    Ok(pb::ListSandboxTemplatesResponse { templates, next_page_token })
}

pub(super) fn delete(
    gateway: &V01,
    ask: pb::DeleteSandboxTemplateRequest,
) -> Answer<pb::DeleteSandboxTemplateResponse> {
    let at = (one(ask.workspace_scope)?, ask.name);
    let deleted = gateway.core.with(|state| state.delete_template(&at))?;
    let outcome = outcome("template", deleted, ask.allow_missing)?;
    Ok(pb::DeleteSandboxTemplateResponse { outcome })
}

/// Starts staging an image. The upload itself is not implemented: the returned path is not served.
pub(super) fn begin_staging(
    gateway: &V01,
    ask: pb::BeginRootfsTarStagingRequest,
) -> Answer<pb::BeginRootfsTarStagingResponse> {
    let workspace = one(ask.workspace_scope)?;
    gateway.core.with(|state| state.workspace(&workspace))?;
    if ask.file_name.is_empty() || ask.size_bytes > STAGING_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "file_name is required, and at most {STAGING_BYTES_MAX} bytes"
        )));
    }
    let staging = Meta::new(&workspace, &ask.file_name);
    Ok(pb::BeginRootfsTarStagingResponse {
        upload_path: format!("/staging/{}", staging.id),
        staging_token: staging.id,
        max_bytes: STAGING_BYTES_MAX,
        expiration_time: super::scope::time(staging.created_ms + 3_600_000),
    })
}
