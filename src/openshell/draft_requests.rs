//! Decisions about draft chunks, as stock clients send them, and the answers that a gateway would give.
//!
//! Invariant: a request was parsed strictly before: it has each field once.

use bytes::Bytes;

use super::Generation;
use crate::pb::wire::{self, FieldReader, FieldValue, MalformedMessage};

/// Field of the chunk in requests about one. Both generations have it.
const CHUNK: u32 = 2;
/// Field of the review token in an approval. Both generations have it.
const TOKEN: u32 = 4;
/// Field of the reason in a rejection. Both generations have it.
const REASON: u32 = 3;
/// Field of the flag in an approval of several. Both generations have it.
const INCLUDE_FLAGGED: u32 = 2;
/// Fields of an item in the list of such an approval.
const LISTED_CHUNK: u32 = 1;
const LISTED_TOKEN: u32 = 2;
/// Fields of the answer to an approval. Both generations have them.
const VERSION: u32 = 1;
const HASH: u32 = 2;
const APPROVED: u32 = 3;
const SKIPPED: u32 = 4;

/// A chunk, and the proof of what its approver has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkToken {
    /// The gateway's id of the chunk.
    pub chunk: String,
    /// The review token.
    pub token: String,
}

/// A decision about chunks of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftRequest {
    /// Approves one chunk.
    Approve(ChunkToken),
    /// Approves a list of chunks; all that are pending without a list.
    ApproveAll {
        /// The list.
        listed: Vec<ChunkToken>,
        /// Whether it includes chunks with security notes.
        includes_flagged: bool,
    },
    /// Rejects a chunk.
    Reject {
        /// The gateway's id of the chunk.
        chunk: String,
        /// Why.
        reason: String,
    },
    /// Replaces the rule of a chunk.
    Edit(String),
    /// Makes an approved chunk pending again.
    Undo(String),
    /// Deletes the pending chunks.
    Clear,
}

impl DraftRequest {
    /// Reads a request. Returns `None` for a request about something else. `message` is the full name of its message.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(
        generation: Generation,
        message: &str,
        request: &[u8],
    ) -> Result<Option<Self>, MalformedMessage> {
        let text = |number| wire::text_at(request, &[number]).unwrap_or_default().to_owned();
        Ok(match message.rsplit('.').next().unwrap_or_default() {
            "ApproveDraftChunkRequest" => {
                Some(Self::Approve(ChunkToken { chunk: text(CHUNK), token: text(TOKEN) }))
            }
            "ApproveAllDraftChunksRequest" => Some(Self::ApproveAll {
                listed: read_list(generation, request)?,
                includes_flagged: wire::is_flag_set(request, INCLUDE_FLAGGED),
            }),
            "RejectDraftChunkRequest" => {
                Some(Self::Reject { chunk: text(CHUNK), reason: text(REASON) })
            }
            "EditDraftChunkRequest" => Some(Self::Edit(text(CHUNK))),
            "UndoDraftChunkRequest" => Some(Self::Undo(text(CHUNK))),
            "ClearDraftChunksRequest" => Some(Self::Clear),
            _ => None,
        })
    }
}

/// Returns the field of the list in an approval of several chunks: the generations have it and another field swapped.
#[must_use]
pub fn list_field(generation: Generation) -> u32 {
    match generation {
        Generation::V0_0 => 4,
        Generation::V0_1 => 3,
    }
}

fn read_list(generation: Generation, request: &[u8]) -> Result<Vec<ChunkToken>, MalformedMessage> {
    let (mut fields, mut listed) = (FieldReader::new(request), Vec::new());
    while let Some((number, value)) = fields.next_field()? {
        let FieldValue::Bytes(item) = value else { continue };
        if number == list_field(generation) {
            let text = |number| wire::text_at(item, &[number]).unwrap_or_default().to_owned();
            listed.push(ChunkToken { chunk: text(LISTED_CHUNK), token: text(LISTED_TOKEN) });
        }
    }
    Ok(listed)
}

/// Returns the encoded answer to a call that has written a policy: the approval of a chunk, or an `UpdateConfig`. Both
/// generations have its fields, with the same numbers in both answers.
#[must_use]
pub fn encode_written(version: u64, policy_hash: &str) -> Bytes {
    let mut answer = Vec::new();
    put(&mut answer, VERSION, version);
    if !policy_hash.is_empty() {
        wire::put_bytes(&mut answer, HASH, policy_hash.as_bytes());
    }
    Bytes::from(answer)
}

/// Returns the encoded answer to the approval of several chunks. Both generations have its fields.
#[must_use]
pub fn encode_all_approved(version: u64, policy_hash: &str, approved: u64, skipped: u64) -> Bytes {
    let mut answer = encode_written(version, policy_hash).to_vec();
    put(&mut answer, APPROVED, approved);
    put(&mut answer, SKIPPED, skipped);
    Bytes::from(answer)
}

/// Writes a number, unless it is 0, which is the default.
fn put(to: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        wire::put_number(to, number, value);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::v0_0::openshell::v1 as old;
    use crate::pb::v0_1::openshell::datamodel::v1::WorkspaceSelector;
    use crate::pb::v0_1::openshell::v1 as new;

    fn read(generation: Generation, name: &str, request: &[u8]) -> DraftRequest {
        let name = format!("openshell.v1.{name}");
        DraftRequest::read(generation, &name, request).unwrap().unwrap()
    }

    #[test]
    fn a_list_is_read_in_both_generations() {
        let item = |n: u32| (format!("c{n}"), format!("t{n}"));
        let listed: Vec<ChunkToken> =
            [1, 2].map(item).map(|(chunk, token)| ChunkToken { chunk, token }).into();
        let expected = DraftRequest::ApproveAll { listed: listed.clone(), includes_flagged: true };
        let approval = |of: &ChunkToken| old::DraftChunkApproval {
            chunk_id: of.chunk.clone(),
            review_token: of.token.clone(),
        };
        let request = old::ApproveAllDraftChunksRequest {
            workspace: "w".to_owned(),
            include_security_flagged: true,
            approvals: listed.iter().map(approval).collect(),
            ..Default::default()
        };
        let name = "ApproveAllDraftChunksRequest";
        assert_eq!(read(Generation::V0_0, name, &request.encode_to_vec()), expected);
        let approval = |of: &ChunkToken| new::DraftChunkApproval {
            chunk_id: of.chunk.clone(),
            review_token: of.token.clone(),
        };
        let request = new::ApproveAllDraftChunksRequest {
            workspace_scope: Some(WorkspaceSelector::default()),
            include_security_flagged: true,
            approvals: listed.iter().map(approval).collect(),
            ..Default::default()
        };
        assert_eq!(read(Generation::V0_1, name, &request.encode_to_vec()), expected);
    }

    #[test]
    fn requests_about_one_chunk_name_it() {
        let approve = new::ApproveDraftChunkRequest {
            chunk_id: "c".to_owned(),
            review_token: "t".to_owned(),
            ..Default::default()
        };
        let of = ChunkToken { chunk: "c".to_owned(), token: "t".to_owned() };
        let (chunk_id, reason) = ("c".to_owned(), "r".to_owned());
        let reject = old::RejectDraftChunkRequest {
            chunk_id: chunk_id.clone(),
            reason: reason.clone(),
            ..Default::default()
        };
        let undo = old::UndoDraftChunkRequest { chunk_id, ..Default::default() };
        for (generation, name, request, expected) in [
            (
                Generation::V0_1,
                "ApproveDraftChunkRequest",
                approve.encode_to_vec(),
                DraftRequest::Approve(of),
            ),
            (
                Generation::V0_0,
                "RejectDraftChunkRequest",
                reject.encode_to_vec(),
                DraftRequest::Reject { chunk: "c".to_owned(), reason },
            ),
            (
                Generation::V0_0,
                "UndoDraftChunkRequest",
                undo.encode_to_vec(),
                DraftRequest::Undo("c".to_owned()),
            ),
        ] {
            assert_eq!(read(generation, name, &request), expected);
        }
        let other = DraftRequest::read(Generation::V0_0, "openshell.v1.GetDraftPolicyRequest", &[]);
        assert_eq!(other, Ok(None));
    }

    #[test]
    fn answers_are_those_of_a_gateway() {
        let answer =
            new::ApproveDraftChunkResponse { policy_version: 7, policy_hash: "hash".to_owned() };
        assert_eq!(encode_written(7, "hash"), answer.encode_to_vec());
        let policy_hash = "hash".to_owned();
        let answer = old::UpdateConfigResponse { version: 7, policy_hash, ..Default::default() };
        assert_eq!(encode_written(7, "hash"), answer.encode_to_vec());
        let answer = old::ApproveAllDraftChunksResponse {
            policy_version: 7,
            policy_hash: "hash".to_owned(),
            chunks_approved: 2,
            chunks_skipped: 0,
        };
        assert_eq!(encode_all_approved(7, "hash", 2, 0), answer.encode_to_vec());
    }
}
