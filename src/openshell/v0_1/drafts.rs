//! Draft chunks in generation 0.1.

use prost::Message;

use super::workspace_selector;
use crate::db::types::SandboxName;
use crate::pb::v0_1::openshell::v1 as pb;

pub(in crate::openshell) fn encode_get_drafts(sandbox: &SandboxName) -> Vec<u8> {
    let request = pb::GetDraftPolicyRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        status_filter: String::new(),
        sandbox: sandbox.name.clone(),
    };
    request.encode_to_vec()
}
