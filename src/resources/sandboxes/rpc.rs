//! gRPC implementation of `SandboxService`.

use std::sync::Arc;

use tonic::{Request, Streaming};

use super::cleanup::SandboxDependents;
use super::create::{self, CreateRequest};
use super::domain::{self, SandboxUpdate};
use super::lists::{self, GatewaySelection, SandboxQuery, UnreachableGateway};
use super::{bypass, exec, input, logs, messages, ssh, templates};
use crate::app::App;
use crate::ctx::Ctx;
use crate::db::page::PageSize;
use crate::error::Error;
use crate::labels::Selector;
use crate::openshell::exec::{Command, Input, Output};
use crate::openshell::watch::{WatchEvent, WatchStream};
use crate::pb::v1 as pb;
use crate::pb::v1::sandbox_service_server::{SandboxService, SandboxServiceServer};
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::streams::{
    RequestStream, ResponseSink, ResponseStream, handle_duplex, handle_stream,
};
use crate::rpc::wire;

/// The service.
#[derive(Debug)]
pub struct Sandboxes(Arc<App>);

/// Creates the service for the gRPC router.
pub fn service(app: &Arc<App>) -> SandboxServiceServer<Sandboxes> {
    let limit = app.config.server.message_bytes_max();
    SandboxServiceServer::new(Sandboxes(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl SandboxService for Sandboxes {
    type ExecSandboxStream = ResponseStream<pb::ExecSandboxResponse>;
    type WatchSandboxStream = ResponseStream<pb::WatchSandboxResponse>;

    async fn create_sandbox(
        &self,
        request: Request<pb::CreateSandboxRequest>,
    ) -> Reply<pb::CreateSandboxResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let begun = create::create(&ctx, CreateRequest::try_from(req)?).await?;
            Ok(pb::CreateSandboxResponse { operation: begun.map(Into::into) })
        })
        .await
    }

    async fn get_sandbox(
        &self,
        request: Request<pb::GetSandboxRequest>,
    ) -> Reply<pb::GetSandboxResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let found = domain::get(ctx, &input::full_name(&req.workspace, &req.sandbox)?).await?;
            Ok(pb::GetSandboxResponse { sandbox: Some(found.into()) })
        })
        .await
    }

    async fn list_sandboxes(
        &self,
        request: Request<pb::ListSandboxesRequest>,
    ) -> Reply<pb::ListSandboxesResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let token = req.page_token.clone();
            let page = lists::list(ctx, &req.try_into()?, size, &token).await?;
            let sandboxes = page.sandboxes.into_iter().map(Into::into).collect();
            let unreachable = page.unreachable.into_iter().map(Into::into).collect();
            Ok(pb::ListSandboxesResponse { sandboxes, next_page_token: page.next, unreachable })
        })
        .await
    }

    async fn update_sandbox_metadata(
        &self,
        request: Request<pb::UpdateSandboxMetadataRequest>,
    ) -> Reply<pb::UpdateSandboxMetadataResponse> {
        handle_write(&self.0, request, async move |ctx, mut req| {
            let place = input::full_name(&req.workspace, &req.sandbox)?;
            let given_etag = std::mem::take(&mut req.etag);
            let updated = domain::update(&ctx, &place, req.try_into()?, &given_etag).await?;
            Ok(pb::UpdateSandboxMetadataResponse { sandbox: Some(updated.into()) })
        })
        .await
    }

    async fn delete_sandbox(
        &self,
        request: Request<pb::DeleteSandboxRequest>,
    ) -> Reply<pb::DeleteSandboxResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = input::full_name(&req.workspace, &req.sandbox)?;
            Ok(domain::delete(&ctx, &place, req.validate_only).await?.into())
        })
        .await
    }

    async fn start_sandbox(
        &self,
        request: Request<pb::StartSandboxRequest>,
    ) -> Reply<pb::StartSandboxResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = input::full_name(&req.workspace, &req.sandbox)?;
            let started = domain::start(&ctx, &place).await?;
            Ok(pb::StartSandboxResponse { sandbox: Some(started.into()) })
        })
        .await
    }

    async fn stop_sandbox(
        &self,
        request: Request<pb::StopSandboxRequest>,
    ) -> Reply<pb::StopSandboxResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = input::full_name(&req.workspace, &req.sandbox)?;
            let stopped = domain::stop(&ctx, &place).await?;
            Ok(pb::StopSandboxResponse { sandbox: Some(stopped.into()) })
        })
        .await
    }

    async fn exec_sandbox(
        &self,
        request: Request<Streaming<pb::ExecSandboxRequest>>,
    ) -> Reply<Self::ExecSandboxStream> {
        handle_duplex(&self.0, request, run_interactive).await
    }

    async fn start_exec_sandbox(
        &self,
        request: Request<pb::StartExecSandboxRequest>,
    ) -> Reply<pb::StartExecSandboxResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = input::full_name(&req.workspace, &req.sandbox)?;
            let started = exec::start(&ctx, &place, req.try_into()?).await?;
            Ok(pb::StartExecSandboxResponse { operation: Some(started.into()) })
        })
        .await
    }

    async fn get_sandbox_logs(
        &self,
        request: Request<pb::GetSandboxLogsRequest>,
    ) -> Reply<pb::GetSandboxLogsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let place = input::full_name(&req.workspace, &req.sandbox)?;
            let lines = logs::get(ctx, &place, &req.try_into()?).await?;
            let lines = lines.into_iter().map(Into::into).collect();
            Ok(pb::GetSandboxLogsResponse { log_lines: lines })
        })
        .await
    }

    async fn watch_sandbox(
        &self,
        request: Request<pb::WatchSandboxRequest>,
    ) -> Reply<Self::WatchSandboxStream> {
        let prepare = async move |ctx, req: pb::WatchSandboxRequest| {
            let place = input::full_name(&req.workspace, &req.sandbox)?;
            let watching = logs::watch(&ctx, &place, &req.try_into()?).await?;
            Ok((ctx, watching))
        };
        handle_stream(&self.0, request, prepare, follow).await
    }

    async fn create_ssh_session(
        &self,
        request: Request<pb::CreateSshSessionRequest>,
    ) -> Reply<pb::CreateSshSessionResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = input::full_name(&req.workspace, &req.sandbox)?;
            Ok(ssh::create(&ctx, &place).await?.into())
        })
        .await
    }

    async fn revoke_ssh_session(
        &self,
        request: Request<pb::RevokeSshSessionRequest>,
    ) -> Reply<pb::RevokeSshSessionResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = input::full_name(&req.workspace, &req.sandbox)?;
            ssh::revoke(&ctx, &place, &req.token).await?;
            Ok(pb::RevokeSshSessionResponse {})
        })
        .await
    }

    async fn list_bypass_events(
        &self,
        request: Request<pb::ListBypassEventsRequest>,
    ) -> Reply<pb::ListBypassEventsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let token = req.page_token.clone();
            Ok(bypass::list(ctx, &req.try_into()?, size, &token).await?.into())
        })
        .await
    }

    async fn list_sandbox_templates(
        &self,
        request: Request<pb::ListSandboxTemplatesRequest>,
    ) -> Reply<pb::ListSandboxTemplatesResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            Ok(templates::list(ctx, size, &req.page_token).await?.into())
        })
        .await
    }
}

/// Passes input and output of a command on until it has ended.
async fn run_interactive(
    ctx: Ctx,
    mut first: pb::ExecSandboxRequest,
    rest: RequestStream<pb::ExecSandboxRequest>,
    sink: ResponseSink<pb::ExecSandboxResponse>,
) -> Result<(), Error> {
    let place = input::full_name(&first.workspace, &first.sandbox)?;
    let begin = first.input.take();
    let command: Command = first.try_into()?;
    let digest = exec::InputDigest::new(&ctx);
    let typed = Box::pin(input_stream(&digest, begin, rest));
    let mut talk = exec::start_interactive(&ctx, &place, command, typed).await?;
    while let Some(output) = talk.next().await? {
        match &output {
            Output::Stdout(bytes) | Output::Stderr(bytes) => ctx.count_bytes(0, bytes.len()),
            Output::Exit(code) => ctx.add_audit_detail("exit_code", *code),
        }
        sink.send(output.into()).await?;
    }
    Ok(())
}

/// Converts the caller's input and adds it to the digest, up to its end or the first error.
fn input_stream(
    digest: &exec::InputDigest<'_>,
    begin: Option<pb::exec_sandbox_request::Input>,
    rest: RequestStream<pb::ExecSandboxRequest>,
) -> impl futures_util::Stream<Item = Result<Input, Error>> + Send {
    futures_util::stream::unfold(Some((begin, rest)), move |state| async move {
        let (mut next, mut rest) = state?;
        while next.is_none() {
            match rest.next().await {
                Ok(Some(message)) => next = message.input,
                Ok(None) => return None,
                Err(error) => return Some((Err(error), None)),
            }
        }
        let input = messages::input(next?);
        if let Ok(Input::Stdin(bytes)) = &input {
            digest.update(bytes);
        }
        let goes_on = input.is_ok().then_some((None, rest));
        Some((input, goes_on))
    })
}

async fn follow(
    (ctx, mut watching): (Ctx, WatchStream),
    sink: ResponseSink<pb::WatchSandboxResponse>,
) -> Result<(), Error> {
    while let Some(seen) = watching.next().await? {
        let seen = match seen {
            WatchEvent::Sandbox(sandbox) => {
                let described = domain::with_meta(&ctx, *sandbox).await?;
                pb::watch_sandbox_response::Seen::Sandbox(described.into())
            }
            WatchEvent::Log(line) => pb::watch_sandbox_response::Seen::Log(line.into()),
            WatchEvent::Event(event) => pb::watch_sandbox_response::Seen::Event(event.into()),
            WatchEvent::Warning(warning) => pb::watch_sandbox_response::Seen::Warning(warning),
        };
        sink.send(pb::WatchSandboxResponse { seen: Some(seen) }).await?;
    }
    Ok(())
}

impl TryFrom<pb::ListSandboxesRequest> for SandboxQuery {
    type Error = Error;

    fn try_from(req: pb::ListSandboxesRequest) -> Result<Self, Error> {
        let workspace = Some(req.workspace).filter(|workspace| !workspace.is_empty());
        Ok(Self {
            gateways: GatewaySelection::parse(req.gateway, &req.gateway_selector)?,
            workspace: workspace.map(|name| input::name("workspace", &name)).transpose()?,
            selector: Selector::parse("label_selector", &req.label_selector)?,
        })
    }
}

impl From<UnreachableGateway> for pb::UnreachableGateway {
    fn from(UnreachableGateway { gateway, reason: why }: UnreachableGateway) -> Self {
        Self { gateway, error: why }
    }
}

impl TryFrom<pb::UpdateSandboxMetadataRequest> for SandboxUpdate {
    type Error = Error;

    fn try_from(req: pb::UpdateSandboxMetadataRequest) -> Result<Self, Error> {
        let mut change = Self::default();
        let (mut description, mut labels) = (Some(req.description), Some(req.labels));
        for path in wire::mask_paths(req.update_mask)? {
            match path.as_str() {
                "description" => {
                    let given = description.take().unwrap_or_default();
                    change.description = Some(input::description(given)?);
                }
                "labels" => {
                    let given = labels.take().unwrap_or_default();
                    change.labels = Some(input::labels(given.into_iter().collect())?);
                }
                other => return Err(wire::unchangeable_path(other)),
            }
        }
        Ok(change)
    }
}

impl From<SandboxDependents> for pb::DeleteSandboxResponse {
    fn from(gone: SandboxDependents) -> Self {
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Self {
            metadata_removed: gone.metadata,
            boot_hooks_removed: count(gone.boot_hooks),
            sbom_removed: gone.sbom,
            ssh_sessions_removed: count(gone.ssh_sessions),
        }
    }
}
