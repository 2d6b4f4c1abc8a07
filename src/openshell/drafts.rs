//! Draft chunks: network rules that the agent of a sandbox asks for.

use super::gateway::CALL_TIME;
use super::policies::messages;
use super::sandbox::map_not_found;
use super::{Gateway, Generation, v0_0, v0_1};
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::pb::wire;

const LIST: &str = "/openshell.v1.OpenShell/GetDraftPolicy";

/// Field of the chunks in the response, and of id and status in a chunk. Both generations have them.
const CHUNKS: u32 = 1;
const ID: u32 = 1;
const STATUS: u32 = 2;

/// Status of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkStatus {
    /// Not decided yet.
    Pending,
    /// Rejected.
    Rejected,
    /// Approved, or a status that this build does not know. Its rule may be part of the policy.
    MaybeApproved,
}

impl ChunkStatus {
    fn parse(word: &str) -> Self {
        match word {
            "pending" => Self::Pending,
            "rejected" => Self::Rejected,
            _ => Self::MaybeApproved,
        }
    }
}

impl Gateway {
    /// Returns the status of a draft chunk of a sandbox, or `None` if the sandbox has no chunk of that id.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist; those of the call.
    pub async fn chunk_status(
        &self,
        sandbox: &SandboxName,
        chunk: &str,
    ) -> Result<Option<ChunkStatus>, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_get_drafts(sandbox),
            Generation::V0_1 => v0_1::encode_get_drafts(sandbox),
        };
        let answer = self.unary(LIST, &request, CALL_TIME).await;
        let answer = answer.map_err(map_not_found(sandbox))?;
        Ok(find_status(&answer, chunk))
    }
}

fn find_status(answer: &[u8], chunk: &str) -> Option<ChunkStatus> {
    let found = messages(answer, CHUNKS)
        .into_iter()
        .find(|found| wire::text_at(found, &[ID]).is_some_and(|id| id == chunk))?;
    Some(ChunkStatus::parse(wire::text_at(found, &[STATUS]).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::v0_0::openshell::v1 as old;

    #[test]
    fn a_chunk_of_an_unknown_status_may_be_approved() {
        let chunk = |id: &str, status: &str| old::PolicyChunk {
            id: id.to_owned(),
            status: status.to_owned(),
            ..Default::default()
        };
        let chunks = vec![
            chunk("a", "pending"),
            chunk("b", "rejected"),
            chunk("c", "approved"),
            chunk("d", "merged"),
            chunk("e", ""),
        ];
        let answer = old::GetDraftPolicyResponse { chunks, ..Default::default() }.encode_to_vec();
        for (id, expected) in [
            ("a", Some(ChunkStatus::Pending)),
            ("b", Some(ChunkStatus::Rejected)),
            ("c", Some(ChunkStatus::MaybeApproved)),
            ("d", Some(ChunkStatus::MaybeApproved)),
            ("e", Some(ChunkStatus::MaybeApproved)),
            ("f", None),
        ] {
            assert_eq!(find_status(&answer, id), expected, "{id}");
        }
    }
}
