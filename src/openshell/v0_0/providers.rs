//! Providers in generation 0.0: lists are paged by offset.

use prost::Message;

use crate::db::types::workspace_or_default;
use crate::openshell::providers::ProviderType;
use crate::openshell::sandbox::{PAGE_SIZE, Page};
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

/// Parses a page. A gateway may return fewer providers than requested, so only an empty page is the last.
pub(in crate::openshell) fn decode_providers(
    answer: &[u8],
    from: &str,
) -> Option<Page<ProviderType>> {
    let found = pb::ListProvidersResponse::decode(answer).ok()?.providers;
    let offset = from.parse::<usize>().unwrap_or_default() + found.len();
    let next = (!found.is_empty()).then(|| offset.to_string());
    let types = found.into_iter().filter_map(|provider| {
        let meta = provider.metadata?;
        let workspace = workspace_or_default(&meta.workspace).to_owned();
        Some(ProviderType { workspace, name: meta.name, profile: provider.r#type })
    });
    Some((types.collect(), next))
}
