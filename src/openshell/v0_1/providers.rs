//! Providers in generation 0.1: lists have page tokens.

use prost::Message;

use super::{next_page, selector_or_all, workspace_selector};
use crate::db::types::SandboxName;
use crate::openshell::reach::{AttachedProviders, ProviderProfile};
use crate::openshell::sandbox::{PAGE_SIZE, Page, parse_name};
use crate::pb::v0_1::openshell::v1 as pb;

pub(in crate::openshell) fn encode_get_provider(workspace: &str, name: &str) -> Vec<u8> {
    let (name, workspace_scope) = (name.to_owned(), Some(workspace_selector(workspace)));
    pb::GetProviderRequest { workspace_scope, name }.encode_to_vec()
}

pub(in crate::openshell) fn encode_list_providers(workspace: Option<&str>, from: &str) -> Vec<u8> {
    let request = pb::ListProvidersRequest {
        workspace_scope: Some(selector_or_all(workspace)),
        page_size: i32::try_from(PAGE_SIZE).unwrap_or(i32::MAX),
        page_token: from.to_owned(),
        label_selector: String::new(),
    };
    request.encode_to_vec()
}

/// Parses a page. A row that cannot be read makes the page unreadable.
pub(in crate::openshell) fn decode_providers(answer: &[u8]) -> Option<Page<ProviderProfile>> {
    let answer = pb::ListProvidersResponse::decode(answer).ok()?;
    let next = next_page(answer.next_page_token);
    let profiles = answer.providers.into_iter().map(|provider| {
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
) -> Option<Page<AttachedProviders>> {
    let answer = pb::ListSandboxesResponse::decode(answer).ok()?;
    let next = next_page(answer.next_page_token);
    let rows = answer.sandboxes.into_iter().map(|found| {
        let meta = found.metadata?;
        let sandbox = parse_name(&meta.workspace, &meta.name)?;
        let providers = found.spec.unwrap_or_default().providers;
        Some(AttachedProviders { sandbox, id: meta.id, providers })
    });
    Some((rows.collect::<Option<_>>()?, next))
}
