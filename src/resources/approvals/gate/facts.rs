//! What only the gateway knows about a call. It is asked before the transaction, and only if a rule could apply.

use super::asked::{Asked, CredentialWrite};
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::drafts::ChunkStatus;
use crate::openshell::providers;
use crate::openshell::settings::{APPROVAL_MANUAL, APPROVAL_MODE, Value};

/// What the gateway said about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Facts {
    /// The draft chunk was never approved.
    NotApproved,
    /// Without its own approval mode, the sandbox has `manual`.
    ManualMode,
    /// Only values of credentials are replaced.
    OnlyCredentials,
    /// The sandboxes that the change reaches.
    Reached(Vec<SandboxName>),
    /// Nothing that makes the change smaller.
    Nothing,
}

/// Asks the gateway for the facts of a call.
///
/// # Errors
/// Those of the calls: what is not known cannot make a change smaller.
pub(super) async fn ask(gateway: &Gateway, asked: &Asked) -> Result<Facts, Error> {
    match asked {
        Asked::Reject { sandbox, chunk } => {
            Ok(match gateway.chunk_status(sandbox, chunk).await? {
                Some(ChunkStatus::MaybeApproved) => Facts::Nothing,
                Some(ChunkStatus::Pending | ChunkStatus::Rejected) | None => Facts::NotApproved,
            })
        }
        Asked::RemoveApprovalMode(_) => {
            let (settings, _) = gateway.settings(None).await?;
            let mode = settings.into_iter().find(|setting| setting.key == APPROVAL_MODE);
            Ok(match mode.and_then(|mode| mode.value) {
                None => Facts::ManualMode,
                Some(Value::Text(mode)) if mode == APPROVAL_MANUAL => Facts::ManualMode,
                Some(Value::Text(_) | Value::Bool(_) | Value::Int(_) | Value::Opaque) => {
                    Facts::Nothing
                }
            })
        }
        Asked::Provider { workspace, name, credentials } => {
            if let Some(write) = credentials
                && replaces_only_credentials(gateway, workspace, name, write).await?
            {
                return Ok(Facts::OnlyCredentials);
            }
            let sandboxes = gateway.list_sandboxes(Some(workspace)).await?.into_iter();
            let reached = sandboxes.filter(|sandbox| sandbox.providers.contains(name));
            Ok(Facts::Reached(reached.map(|sandbox| sandbox.full_name).collect()))
        }
        Asked::Profiles { workspace, ids } => {
            reached_by_profiles(gateway, workspace.as_deref(), ids).await.map(Facts::Reached)
        }
        Asked::Create { .. }
        | Asked::Delete(_)
        | Asked::Write(..)
        | Asked::Indirect(..)
        | Asked::Wide(..)
        | Asked::Harmless(_) => Ok(Facts::Nothing),
    }
}

async fn replaces_only_credentials(
    gateway: &Gateway,
    workspace: &str,
    name: &str,
    write: &CredentialWrite,
) -> Result<bool, Error> {
    let Some(shown) = gateway.provider(workspace, name).await? else { return Ok(false) };
    let CredentialWrite { generation, message, encoded } = write;
    Ok(providers::replaces_only_credentials(*generation, message, encoded, &shown))
}

/// Returns the sandboxes with a provider of one of these profiles.
async fn reached_by_profiles(
    gateway: &Gateway,
    workspace: Option<&str>,
    ids: &[String],
) -> Result<Vec<SandboxName>, Error> {
    let types = gateway.provider_types(workspace).await?;
    let sandboxes = gateway.list_sandboxes(workspace).await?.into_iter();
    let reached = sandboxes.filter(|sandbox| {
        types.iter().any(|provider| {
            provider.workspace == sandbox.full_name.workspace
                && ids.contains(&provider.profile)
                && sandbox.providers.contains(&provider.name)
        })
    });
    Ok(reached.map(|sandbox| sandbox.full_name).collect())
}
