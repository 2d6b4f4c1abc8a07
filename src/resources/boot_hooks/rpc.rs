//! gRPC implementation of `BootHookService`.

use std::sync::Arc;

use tonic::Request;

use super::domain::{self, HookUpdate, NewHook};
use super::input::{self, Environment, HookPhase, HookStatus};
use super::run::HookOutcome;
use super::store::Hook;
use crate::app::App;
use crate::db::page::PageSize;
use crate::db::types::BootHookId;
use crate::error::Error;
use crate::etag;
use crate::pb::v1 as pb;
use crate::pb::v1::boot_hook_service_server::{BootHookService, BootHookServiceServer};
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::wire;

/// The `BootHookService` implementation.
#[derive(Debug)]
pub struct BootHooks(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> BootHookServiceServer<BootHooks> {
    let limit = app.config.server.message_bytes_max();
    BootHookServiceServer::new(BootHooks(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl BootHookService for BootHooks {
    async fn create_boot_hook(
        &self,
        request: Request<pb::CreateBootHookRequest>,
    ) -> Reply<pb::CreateBootHookResponse> {
        handle_write(&self.0, request, async move |ctx, mut req| {
            let (workspace, sandbox) =
                (std::mem::take(&mut req.workspace), std::mem::take(&mut req.sandbox));
            let place = input::sandbox_ref(&ctx, workspace, sandbox)?;
            let created = domain::create(&ctx, &place, req.try_into()?).await?;
            Ok(pb::CreateBootHookResponse { boot_hook: Some(created.into()) })
        })
        .await
    }

    async fn get_boot_hook(
        &self,
        request: Request<pb::GetBootHookRequest>,
    ) -> Reply<pb::GetBootHookResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let place = input::sandbox_ref(ctx, req.workspace, req.sandbox)?;
            let found = domain::get(ctx, &place, BootHookId(req.boot_hook_id)).await?;
            Ok(pb::GetBootHookResponse { boot_hook: Some(found.into()) })
        })
        .await
    }

    async fn list_boot_hooks(
        &self,
        request: Request<pb::ListBootHooksRequest>,
    ) -> Reply<pb::ListBootHooksResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let place = input::sandbox_ref(ctx, req.workspace, req.sandbox)?;
            let (phase, size) = (phase(req.phase)?, PageSize::parse(req.page_size)?);
            let (page, next_page_token) =
                domain::list(ctx, &place, phase, size, &req.page_token).await?;
            let boot_hooks = page.into_iter().map(Into::into).collect();
            Ok(pb::ListBootHooksResponse { boot_hooks, next_page_token })
        })
        .await
    }

    async fn update_boot_hook(
        &self,
        request: Request<pb::UpdateBootHookRequest>,
    ) -> Reply<pb::UpdateBootHookResponse> {
        handle_write(&self.0, request, async move |ctx, mut req| {
            let (workspace, sandbox) =
                (std::mem::take(&mut req.workspace), std::mem::take(&mut req.sandbox));
            let place = input::sandbox_ref(&ctx, workspace, sandbox)?;
            let (id, given_etag) = (BootHookId(req.boot_hook_id), std::mem::take(&mut req.etag));
            let updated = domain::update(&ctx, &place, id, req.try_into()?, &given_etag).await?;
            Ok(pb::UpdateBootHookResponse { boot_hook: Some(updated.into()) })
        })
        .await
    }

    async fn delete_boot_hook(
        &self,
        request: Request<pb::DeleteBootHookRequest>,
    ) -> Reply<pb::DeleteBootHookResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = input::sandbox_ref(&ctx, req.workspace, req.sandbox)?;
            domain::delete(&ctx, &place, BootHookId(req.boot_hook_id), &req.etag).await?;
            Ok(pb::DeleteBootHookResponse {})
        })
        .await
    }

    async fn reorder_boot_hooks(
        &self,
        request: Request<pb::ReorderBootHooksRequest>,
    ) -> Reply<pb::ReorderBootHooksResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = input::sandbox_ref(&ctx, req.workspace, req.sandbox)?;
            let phase = required_phase(req.phase)?;
            let ids: Vec<BootHookId> = req.boot_hook_ids.into_iter().map(Into::into).collect();
            let ordered = domain::reorder(&ctx, &place, phase, &ids).await?;
            let boot_hooks = ordered.into_iter().map(Into::into).collect();
            Ok(pb::ReorderBootHooksResponse { boot_hooks })
        })
        .await
    }

    async fn run_boot_hook(
        &self,
        request: Request<pb::RunBootHookRequest>,
    ) -> Reply<pb::RunBootHookResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = input::sandbox_ref(&ctx, req.workspace, req.sandbox)?;
            let outcome = domain::run_now(&ctx, &place, BootHookId(req.boot_hook_id)).await?;
            Ok(pb::RunBootHookResponse { outcome: Some(outcome.into()) })
        })
        .await
    }
}

fn phase(wire: i32) -> Result<Option<HookPhase>, Error> {
    match pb::BootHookPhase::try_from(wire) {
        Ok(pb::BootHookPhase::Unspecified) => Ok(None),
        Ok(pb::BootHookPhase::PreCreate) => Ok(Some(HookPhase::PreCreate)),
        Ok(pb::BootHookPhase::PostCreate) => Ok(Some(HookPhase::PostCreate)),
        Err(_) => Err(Error::invalid("phase", "must be pre_create or post_create")),
    }
}

fn required_phase(wire: i32) -> Result<HookPhase, Error> {
    phase(wire)?.ok_or_else(|| Error::invalid("phase", "must be pre_create or post_create"))
}

impl TryFrom<pb::CreateBootHookRequest> for NewHook {
    type Error = Error;

    fn try_from(req: pb::CreateBootHookRequest) -> Result<Self, Error> {
        let seconds = match req.timeout_seconds {
            0 => input::TIMEOUT_SECONDS_DEFAULT,
            said => said,
        };
        Ok(Self {
            name: input::name("name", req.name)?,
            phase: required_phase(req.phase)?,
            command: input::command("command", req.command)?,
            workdir: input::workdir("workdir", req.workdir)?,
            environment: Environment::parse("environment", req.environment)?,
            timeout_seconds: input::timeout("timeout_seconds", seconds)?,
            enabled: req.enabled.unwrap_or(true),
            continue_on_failure: req.continue_on_failure,
        })
    }
}

impl TryFrom<pb::UpdateBootHookRequest> for HookUpdate {
    type Error = Error;

    fn try_from(mut req: pb::UpdateBootHookRequest) -> Result<Self, Error> {
        let mut change = Self::default();
        for path in wire::mask_paths(req.update_mask.take())? {
            match path.as_str() {
                "command" => {
                    let command = std::mem::take(&mut req.command);
                    change.command = Some(input::command("command", command)?);
                }
                "workdir" => {
                    let workdir = std::mem::take(&mut req.workdir);
                    change.workdir = Some(input::workdir("workdir", workdir)?);
                }
                "environment" => {
                    let environment = std::mem::take(&mut req.environment);
                    change.environment = Some(Environment::parse("environment", environment)?);
                }
                "timeout_seconds" => {
                    let seconds = input::timeout("timeout_seconds", req.timeout_seconds)?;
                    change.timeout_seconds = Some(seconds);
                }
                "enabled" => change.enabled = Some(req.enabled),
                "continue_on_failure" => change.continue_on_failure = Some(req.continue_on_failure),
                other => return Err(wire::unchangeable_path(other)),
            }
        }
        Ok(change)
    }
}

impl From<HookPhase> for pb::BootHookPhase {
    fn from(phase: HookPhase) -> Self {
        match phase {
            HookPhase::PreCreate => Self::PreCreate,
            HookPhase::PostCreate => Self::PostCreate,
        }
    }
}

impl From<HookStatus> for pb::BootHookStatus {
    fn from(status: HookStatus) -> Self {
        match status {
            HookStatus::Success => Self::Success,
            HookStatus::Failure => Self::Failure,
        }
    }
}

impl From<Hook> for pb::BootHook {
    fn from(hook: Hook) -> Self {
        let last = hook.last_status.map_or(pb::BootHookStatus::Unspecified, Into::into);
        Self {
            id: hook.id.get(),
            gateway: hook.gateway_name,
            workspace: hook.workspace,
            sandbox: hook.sandbox_name,
            name: hook.name,
            phase: pb::BootHookPhase::from(hook.phase).into(),
            command: hook.command,
            workdir: hook.workdir,
            environment_names: hook.env_names.0,
            timeout_seconds: i32::try_from(hook.timeout_seconds).unwrap_or(i32::MAX),
            order: hook.order,
            enabled: hook.enabled,
            continue_on_failure: hook.continue_on_failure,
            created_by: hook.created_by,
            create_time: Some(wire::to_timestamp(hook.created_at)),
            update_time: Some(wire::to_timestamp(hook.updated_at)),
            last_run_time: hook.last_run_at.map(wire::to_timestamp),
            last_status: last.into(),
            last_output: hook.last_output.unwrap_or_default(),
            etag: etag::from_version(hook.version),
        }
    }
}

impl From<HookOutcome> for pb::BootHookOutcome {
    fn from(outcome: HookOutcome) -> Self {
        Self {
            boot_hook_id: outcome.hook_id.get(),
            name: outcome.name,
            phase: pb::BootHookPhase::from(outcome.phase).into(),
            status: pb::BootHookStatus::from(outcome.status).into(),
            summary: outcome.summary,
            output: outcome.output,
        }
    }
}
