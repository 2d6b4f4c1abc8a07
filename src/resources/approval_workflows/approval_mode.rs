//! The approval mode that a gateway has in force for a scope, read in a bounded time.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tracing::debug;

use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::governance::RuleScope;
use crate::openshell::Gateway;
pub use crate::openshell::settings::ApprovalMode;

/// How long the gateway may take.
const READ_TIME: Duration = Duration::from_secs(5);
/// Maximum number of sandboxes of a wide scope whose mode is read. That of more is not known.
const SANDBOXES_READ_MAX: usize = 200;
/// Sandboxes whose mode is read concurrently.
const AT_ONCE: usize = 8;

/// Reads the approval mode of the sandbox of the scope if it exists, or of the gateway and the sandboxes in a wider
/// scope: it is [`ApprovalMode::Auto`] if one of them has it. A failure is [`ApprovalMode::Unknown`].
pub fn read<'a>(ctx: &'a Ctx, scope: &'a RuleScope) -> BoxFuture<'a, ApprovalMode> {
    Box::pin(async move {
        match ctx.app().clock.timeout(READ_TIME, Box::pin(read_all(ctx, scope))).await {
            Some(Ok(mode)) => mode,
            Some(Err(error)) => {
                debug!(%error, "the approval mode could not be read");
                ApprovalMode::Unknown
            }
            None => ApprovalMode::Unknown,
        }
    })
}

async fn read_all(ctx: &Ctx, scope: &RuleScope) -> Result<ApprovalMode, Error> {
    let gateway = Gateway::connect(ctx.app(), ctx.required_gateway()?).await?.on_behalf_of(ctx);
    if let RuleScope::Sandbox(sandbox) = scope {
        return match gateway.approval_mode(Some(sandbox)).await {
            // The rule is for the next sandbox of this name.
            Err(Error::NotFound { .. }) => gateway.approval_mode(None).await,
            mode => mode,
        };
    }
    match gateway.common_approval_mode().await? {
        Some(mode) => Ok(mode),
        None => read_sandboxes(&gateway, scope.workspace()).await,
    }
}

async fn read_sandboxes(gateway: &Gateway, workspace: Option<&str>) -> Result<ApprovalMode, Error> {
    let sandboxes = gateway.list_sandboxes(workspace).await?;
    let mut found = ApprovalMode::Manual;
    if sandboxes.len() > SANDBOXES_READ_MAX {
        found = ApprovalMode::Unknown;
    }
    let picked = sandboxes.iter().take(SANDBOXES_READ_MAX);
    let reads: Vec<_> = picked.map(|sandbox| read_sandbox(gateway, &sandbox.full_name)).collect();
    let mut modes = stream::iter(reads).buffer_unordered(AT_ONCE);
    while let Some(mode) = modes.next().await {
        match mode {
            Ok(ApprovalMode::Auto) => return Ok(ApprovalMode::Auto),
            Ok(ApprovalMode::Manual) => {}
            Ok(ApprovalMode::Unknown) | Err(_) => found = ApprovalMode::Unknown,
        }
    }
    Ok(found)
}

fn read_sandbox<'a>(
    gateway: &'a Gateway,
    sandbox: &'a SandboxName,
) -> BoxFuture<'a, Result<ApprovalMode, Error>> {
    Box::pin(async move {
        // Reading the settings of a sandbox without a policy would make some gateways write a revision.
        gateway.policy_revision(sandbox, 0).await?;
        gateway.approval_mode(Some(sandbox)).await
    })
}
