//! gRPC implementation of `SandboxService`.

use std::sync::Arc;

use tonic::{Request, Streaming};

use super::cleanup::Gone;
use super::create::{self, Asked};
use super::domain::{self, Change};
use super::lists::{self, Of, Query, Unreachable};
use super::{exec, input, logs, messages, ssh, templates};
use crate::app::App;
use crate::ctx::Ctx;
use crate::db::page::PageSize;
use crate::error::Error;
use crate::labels::Selector;
use crate::openshell::exec::{Command, Input, Output};
use crate::openshell::watch::{Seen, Watching};
use crate::pb::v1 as pb;
use crate::pb::v1::sandbox_service_server::{SandboxService, SandboxServiceServer};
use crate::rpc::call::{Reply, call, call_write};
use crate::rpc::streams::{Sink, Stream, Upload, call_duplex, call_stream};
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
    type ExecSandboxStream = Stream<pb::ExecSandboxResponse>;
    type WatchSandboxStream = Stream<pb::WatchSandboxResponse>;

    async fn create_sandbox(
        &self,
        request: Request<pb::CreateSandboxRequest>,
    ) -> Reply<pb::CreateSandboxResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            let begun = create::create(&ctx, Asked::try_from(req)?).await?;
            Ok(pb::CreateSandboxResponse { operation: begun.map(Into::into) })
        })
        .await
    }

    async fn get_sandbox(
        &self,
        request: Request<pb::GetSandboxRequest>,
    ) -> Reply<pb::GetSandboxResponse> {
        call(&self.0, request, async |ctx, req| {
            let found = domain::get(ctx, &input::place(&req.workspace, &req.sandbox)?).await?;
            Ok(pb::GetSandboxResponse { sandbox: Some(found.into()) })
        })
        .await
    }

    async fn list_sandboxes(
        &self,
        request: Request<pb::ListSandboxesRequest>,
    ) -> Reply<pb::ListSandboxesResponse> {
        call(&self.0, request, async |ctx, req| {
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
        call_write(&self.0, request, async move |ctx, mut req| {
            let place = input::place(&req.workspace, &req.sandbox)?;
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
        call_write(&self.0, request, async move |ctx, req| {
            let place = input::place(&req.workspace, &req.sandbox)?;
            Ok(domain::delete(&ctx, &place, req.validate_only).await?.into())
        })
        .await
    }

    async fn start_sandbox(
        &self,
        request: Request<pb::StartSandboxRequest>,
    ) -> Reply<pb::StartSandboxResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            let place = input::place(&req.workspace, &req.sandbox)?;
            let started = domain::start(&ctx, &place).await?;
            Ok(pb::StartSandboxResponse { sandbox: Some(started.into()) })
        })
        .await
    }

    async fn stop_sandbox(
        &self,
        request: Request<pb::StopSandboxRequest>,
    ) -> Reply<pb::StopSandboxResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            let place = input::place(&req.workspace, &req.sandbox)?;
            let stopped = domain::stop(&ctx, &place).await?;
            Ok(pb::StopSandboxResponse { sandbox: Some(stopped.into()) })
        })
        .await
    }

    async fn exec_sandbox(
        &self,
        request: Request<Streaming<pb::ExecSandboxRequest>>,
    ) -> Reply<Self::ExecSandboxStream> {
        call_duplex(&self.0, request, talk).await
    }

    async fn start_exec_sandbox(
        &self,
        request: Request<pb::StartExecSandboxRequest>,
    ) -> Reply<pb::StartExecSandboxResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            let place = input::place(&req.workspace, &req.sandbox)?;
            let started = exec::start(&ctx, &place, req.try_into()?).await?;
            Ok(pb::StartExecSandboxResponse { operation: Some(started.into()) })
        })
        .await
    }

    async fn get_sandbox_logs(
        &self,
        request: Request<pb::GetSandboxLogsRequest>,
    ) -> Reply<pb::GetSandboxLogsResponse> {
        call(&self.0, request, async |ctx, req| {
            let place = input::place(&req.workspace, &req.sandbox)?;
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
            let place = input::place(&req.workspace, &req.sandbox)?;
            let watching = logs::watch(&ctx, &place, &req.try_into()?).await?;
            Ok((ctx, watching))
        };
        call_stream(&self.0, request, prepare, follow).await
    }

    async fn create_ssh_session(
        &self,
        request: Request<pb::CreateSshSessionRequest>,
    ) -> Reply<pb::CreateSshSessionResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            let place = input::place(&req.workspace, &req.sandbox)?;
            Ok(ssh::create(&ctx, &place).await?.into())
        })
        .await
    }

    async fn revoke_ssh_session(
        &self,
        request: Request<pb::RevokeSshSessionRequest>,
    ) -> Reply<pb::RevokeSshSessionResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            let place = input::place(&req.workspace, &req.sandbox)?;
            ssh::revoke(&ctx, &place, &req.token).await?;
            Ok(pb::RevokeSshSessionResponse {})
        })
        .await
    }

    async fn list_sandbox_templates(
        &self,
        request: Request<pb::ListSandboxTemplatesRequest>,
    ) -> Reply<pb::ListSandboxTemplatesResponse> {
        call(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            Ok(templates::templates(ctx, size, &req.page_token).await?.into())
        })
        .await
    }
}

/// Passes input and output of a command on until it has ended.
async fn talk(
    ctx: Ctx,
    mut first: pb::ExecSandboxRequest,
    rest: Upload<pb::ExecSandboxRequest>,
    sink: Sink<pb::ExecSandboxResponse>,
) -> Result<(), Error> {
    let place = input::place(&first.workspace, &first.sandbox)?;
    let begin = first.input.take();
    let command: Command = first.try_into()?;
    let heard = exec::Heard::by(&ctx);
    let typed = Box::pin(typed(&heard, begin, rest));
    let mut talk = exec::talk(&ctx, &place, command, typed).await?;
    while let Some(output) = talk.next().await? {
        match &output {
            Output::Stdout(bytes) | Output::Stderr(bytes) => ctx.passed(0, bytes.len()),
            Output::Exit(code) => ctx.detail("exit_code", *code),
        }
        sink.send(output.into()).await?;
    }
    Ok(())
}

/// Converts the caller's input and adds it to the digest, up to its end or the first error.
fn typed(
    heard: &exec::Heard<'_>,
    begin: Option<pb::exec_sandbox_request::Input>,
    rest: Upload<pb::ExecSandboxRequest>,
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
            heard.more(bytes);
        }
        let goes_on = input.is_ok().then_some((None, rest));
        Some((input, goes_on))
    })
}

async fn follow(
    (ctx, mut watching): (Ctx, Watching),
    sink: Sink<pb::WatchSandboxResponse>,
) -> Result<(), Error> {
    while let Some(seen) = watching.next().await? {
        let seen = match seen {
            Seen::Sandbox(sandbox) => {
                let described = domain::described(&ctx, *sandbox).await?;
                pb::watch_sandbox_response::Seen::Sandbox(described.into())
            }
            Seen::Log(line) => pb::watch_sandbox_response::Seen::Log(line.into()),
            Seen::Event(event) => pb::watch_sandbox_response::Seen::Event(event.into()),
            Seen::Warning(warning) => pb::watch_sandbox_response::Seen::Warning(warning),
        };
        sink.send(pb::WatchSandboxResponse { seen: Some(seen) }).await?;
    }
    Ok(())
}

impl TryFrom<pb::ListSandboxesRequest> for Query {
    type Error = Error;

    fn try_from(req: pb::ListSandboxesRequest) -> Result<Self, Error> {
        let workspace = Some(req.workspace).filter(|workspace| !workspace.is_empty());
        Ok(Self {
            of: Of::parse(req.gateway, &req.gateway_selector)?,
            workspace: workspace.map(|name| input::name("workspace", &name)).transpose()?,
            selector: Selector::parse("label_selector", &req.label_selector)?,
        })
    }
}

impl From<Unreachable> for pb::UnreachableGateway {
    fn from(Unreachable { gateway, why }: Unreachable) -> Self {
        Self { gateway, error: why }
    }
}

impl TryFrom<pb::UpdateSandboxMetadataRequest> for Change {
    type Error = Error;

    fn try_from(req: pb::UpdateSandboxMetadataRequest) -> Result<Self, Error> {
        let mut change = Self::default();
        let (mut description, mut labels) = (Some(req.description), Some(req.labels));
        for path in wire::paths(req.update_mask)? {
            match path.as_str() {
                "description" => {
                    let given = description.take().unwrap_or_default();
                    change.description = Some(input::description(given)?);
                }
                "labels" => {
                    let given = labels.take().unwrap_or_default();
                    change.labels = Some(input::labels(given.into_iter().collect())?);
                }
                other => return Err(wire::unchangeable(other)),
            }
        }
        Ok(change)
    }
}

impl From<Gone> for pb::DeleteSandboxResponse {
    fn from(gone: Gone) -> Self {
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Self {
            metadata_removed: gone.metadata,
            boot_hooks_removed: count(gone.boot_hooks),
            sbom_removed: gone.sbom,
            ssh_sessions_removed: count(gone.ssh_sessions),
        }
    }
}
