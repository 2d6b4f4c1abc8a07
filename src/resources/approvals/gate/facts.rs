//! Facts about a call that only the gateway knows. They are read before the transaction, if a rule could apply.

use super::asked::{Asked, CredentialWrite};
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::drafts::ChunkStatus;
use crate::openshell::providers;
use crate::openshell::reach::ProviderProfile;
use crate::openshell::settings::ApprovalMode;

/// Facts of the gateway about a call.
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
                Some(ChunkStatus::Pending | ChunkStatus::Rejected) => Facts::NotApproved,
                // What the gateway does not list is not known.
                Some(ChunkStatus::MaybeApproved) | None => Facts::Nothing,
            })
        }
        Asked::RemoveApprovalMode(_) => Ok(match gateway.approval_mode(None).await? {
            ApprovalMode::Manual => Facts::ManualMode,
            ApprovalMode::Auto | ApprovalMode::Unknown => Facts::Nothing,
        }),
        Asked::Provider { workspace, name, credentials } => {
            if let Some(write) = credentials
                && replaces_only_credentials(gateway, workspace, name, write).await?
            {
                return Ok(Facts::OnlyCredentials);
            }
            let attached = gateway.attached_providers(Some(workspace)).await?.into_iter();
            let reached = attached.filter(|attached| attached.providers.contains(name));
            Ok(Facts::Reached(reached.map(|attached| attached.sandbox).collect()))
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

/// Returns the sandboxes with a provider of one of these profiles. `workspace` is that of the profiles, or `None` for
/// profiles of the whole gateway.
async fn reached_by_profiles(
    gateway: &Gateway,
    workspace: Option<&str>,
    ids: &[String],
) -> Result<Vec<SandboxName>, Error> {
    let mut providers = gateway.provider_profiles(None).await?;
    providers.retain(|provider| uses_one_of(provider, workspace, ids));
    let attached = gateway.attached_providers(None).await?.into_iter();
    let reached = attached.filter(|attached| {
        providers.iter().any(|provider| {
            provider.workspace == attached.sandbox.workspace
                && attached.providers.contains(&provider.name)
        })
    });
    Ok(reached.map(|attached| attached.sandbox).collect())
}

/// Whether a provider may use one of these profiles. A provider that names another workspace than its own may use those
/// of any workspace: which of them a gateway then considers is not known.
fn uses_one_of(provider: &ProviderProfile, workspace: Option<&str>, ids: &[String]) -> bool {
    let named = provider.profile_workspace.as_str();
    let is_foreign = !named.is_empty() && named != provider.workspace;
    let may_be_of = workspace.is_none_or(|workspace| provider.workspace == workspace || is_foreign);
    may_be_of && ids.iter().any(|id| provider.may_have_profile(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g08_a_provider_with_a_profile_of_another_workspace_is_reached_by_those_of_any() {
        let provider = |profile_workspace: &str| ProviderProfile {
            workspace: "team".to_owned(),
            name: "github".to_owned(),
            id: "an id".to_owned(),
            profile: "GitHub".to_owned(),
            profile_workspace: profile_workspace.to_owned(),
        };
        let ids = ["other".to_owned(), " github".to_owned()];
        for (profile_workspace, workspace, expected) in [
            ("", None, true),
            ("", Some("team"), true),
            ("", Some("shared"), false),
            ("team", Some("shared"), false),
            ("shared", Some("shared"), true),
            ("shared", Some("team"), true),
            ("shared", Some("third"), true),
            ("shared", None, true),
        ] {
            let found = uses_one_of(&provider(profile_workspace), workspace, &ids);
            assert_eq!(found, expected, "{profile_workspace} {workspace:?}");
        }
        assert!(!uses_one_of(&provider("shared"), None, &ids[..1]));
    }

    #[test]
    fn t10_a_profile_reaches_the_providers_of_its_other_names() {
        for (kind, id, expected) in [
            ("github", "github", true),
            ("gh", "github", true),
            (" GH ", "github", true),
            ("github", "gh", true),
            ("Claude", "claude-code", true),
            ("vertex", "google-vertex-ai", true),
            ("gh", "gitlab", false),
            ("gh", "ghs", false),
            ("gcp", "google-vertex-ai", false),
        ] {
            let provider = ProviderProfile {
                workspace: "team".to_owned(),
                name: "tool".to_owned(),
                id: "an id".to_owned(),
                profile: kind.to_owned(),
                profile_workspace: String::new(),
            };
            let ids = [id.to_owned()];
            assert_eq!(uses_one_of(&provider, None, &ids), expected, "{kind:?} {id}");
        }
    }
}
