//! Providers in generation 0.0: lists are paged by offset.

use prost::Message;

use super::next_offset;
use crate::db::types::SandboxName;
use crate::openshell::reach::{AttachedProviders, ProviderProfile};
use crate::openshell::sandbox::{PAGE_SIZE, Page, parse_name};
use crate::pb::v0_0::openshell::v1 as pb;

pub(in crate::openshell) fn encode_get_provider(workspace: &str, name: &str) -> Vec<u8> {
    let (name, workspace) = (name.to_owned(), workspace.to_owned());
    pb::GetProviderRequest { name, workspace }.encode_to_vec()
}

pub(in crate::openshell) fn encode_list_providers(workspace: Option<&str>, from: &str) -> Vec<u8> {
    let request = pb::ListProvidersRequest {
        limit: PAGE_SIZE,
        offset: from.parse().unwrap_or_default(),
        workspace: workspace.unwrap_or_default().to_owned(),
        all_workspaces: workspace.is_none(),
    };
    request.encode_to_vec()
}

/// Parses a page. A row that cannot be read makes the page unreadable.
pub(in crate::openshell) fn decode_providers(
    answer: &[u8],
    from: &str,
) -> Option<Page<ProviderProfile>> {
    let found = pb::ListProvidersResponse::decode(answer).ok()?.providers;
    let next = next_offset(from, found.len());
    let profiles = found.into_iter().map(|provider| {
        let meta = provider.metadata?;
        let SandboxName { workspace, name } = parse_name(&meta.workspace, &meta.name)?;
        let (profile, profile_workspace) = (provider.r#type, provider.profile_workspace);
        Some(ProviderProfile { workspace, name, id: meta.id, profile, profile_workspace })
    });
    Some((profiles.collect::<Option<_>>()?, next))
}

/// Parses a page of sandboxes. A row that cannot be read makes the page unreadable.
pub(in crate::openshell) fn decode_attached_providers(
    answer: &[u8],
    from: &str,
) -> Option<Page<AttachedProviders>> {
    let found = pb::ListSandboxesResponse::decode(answer).ok()?.sandboxes;
    let next = next_offset(from, found.len());
    let rows = found.into_iter().map(|found| {
        let meta = found.metadata?;
        let sandbox = parse_name(&meta.workspace, &meta.name)?;
        let providers = found.spec.unwrap_or_default().providers;
        Some(AttachedProviders { sandbox, id: meta.id, providers })
    });
    Some((rows.collect::<Option<_>>()?, next))
}
