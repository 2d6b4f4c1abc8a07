//! Writes in progress as messages.

use super::domain::WriteInFlight;
use crate::pb::v1 as pb;
use crate::rpc::wire;

impl From<WriteInFlight> for pb::WriteInFlight {
    fn from(write: WriteInFlight) -> Self {
        Self {
            workspace: write.workspace,
            sandbox: write.sandbox_name,
            action: write.kind,
            principal: write.principal.unwrap_or_default(),
            deadline_time: Some(wire::to_timestamp(write.deadline)),
        }
    }
}
