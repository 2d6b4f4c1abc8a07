//! Draft chunks: network rules that the agent of a sandbox asks for.

use super::gateway::CALL_TIME;
use super::policies::messages;
use super::sandbox::map_not_found;
use super::{Gateway, Generation, v0_0, v0_1};
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::pb::wire::{self, FieldReader, MalformedMessage};

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
    /// `NOT_FOUND` if the sandbox does not exist; those of the call. An answer that cannot be read completely is an
    /// error.
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
        find_status(&answer, chunk).map_err(|_| self.unreadable(LIST))
    }
}

fn find_status(answer: &[u8], chunk: &str) -> Result<Option<ChunkStatus>, MalformedMessage> {
    for found in messages(answer, CHUNKS)? {
        let mut fields = FieldReader::new(found);
        while fields.next_field()?.is_some() {}
        if wire::text_at(found, &[ID]).is_some_and(|id| id == chunk) {
            let status = wire::text_at(found, &[STATUS]).unwrap_or_default();
            return Ok(Some(ChunkStatus::parse(status)));
        }
    }
    Ok(None)
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
            assert_eq!(find_status(&answer, id), Ok(expected), "{id}");
        }
    }

    #[test]
    fn g08_a_list_of_chunks_that_is_malformed_after_the_first_has_no_status() {
        let chunk = |id: &str| old::PolicyChunk { id: id.to_owned(), ..Default::default() };
        let mut answer =
            old::GetDraftPolicyResponse { chunks: vec![chunk("a")], ..Default::default() }
                .encode_to_vec();
        // A group, which no message of this API has.
        answer.push(0x0b);
        answer.extend(
            old::GetDraftPolicyResponse { chunks: vec![chunk("b")], ..Default::default() }
                .encode_to_vec(),
        );
        assert_eq!(find_status(&answer, "a"), Err(MalformedMessage));
        assert_eq!(find_status(&answer, "b"), Err(MalformedMessage));
        // The status of the chunk follows a field that cannot be read.
        let mut broken = Vec::new();
        wire::put_bytes(&mut broken, CHUNKS, &[0x0a, 1, b'a', 0x0b, 0x12, 0]);
        assert_eq!(find_status(&broken, "a"), Err(MalformedMessage));
    }
}
