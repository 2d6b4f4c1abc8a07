//! Draft chunks in generation 0.0.

use prost::Message;

use crate::db::types::SandboxName;
use crate::pb::v0_0::openshell::v1 as pb;

pub(in crate::openshell) fn encode_get_drafts(sandbox: &SandboxName) -> Vec<u8> {
    let request = pb::GetDraftPolicyRequest {
        name: sandbox.name.clone(),
        status_filter: String::new(),
        workspace: sandbox.workspace.clone(),
    };
    request.encode_to_vec()
}
