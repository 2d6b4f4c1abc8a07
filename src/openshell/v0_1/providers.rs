//! Providers in generation 0.1: lists have page tokens.

use prost::Message;

use super::{selector_or_all, workspace_selector};
use crate::db::types::workspace_or_default;
use crate::openshell::providers::ProviderType;
use crate::openshell::sandbox::{PAGE_SIZE, Page};
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

pub(in crate::openshell) fn decode_providers(answer: &[u8]) -> Option<Page<ProviderType>> {
    let answer = pb::ListProvidersResponse::decode(answer).ok()?;
    let next = Some(answer.next_page_token).filter(|token| !token.is_empty());
    let types = answer.providers.into_iter().filter_map(|provider| {
        let meta = provider.metadata?;
        let workspace = workspace_or_default(&meta.workspace).to_owned();
        Some(ProviderType { workspace, name: meta.name, profile: provider.r#type })
    });
    Some((types.collect(), next))
}
