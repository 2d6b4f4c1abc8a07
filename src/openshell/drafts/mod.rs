//! Draft chunks: network rules that the agent of a sandbox asks for.
//!
//! Invariants
//! - an answer is read completely or not at all: what cannot be read could be what a person must see;
//! - a list has no pages. A list that is larger than a message can be is reported as such, and is no failure of
//!   the gateway: only the drafts of that sandbox are not known;
//! - texts are as the gateway sent them, since ids, tokens and rules are sent back to it. The code that stores or
//!   shows one bounds it (T20).

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use bytes::Bytes;

use super::gateway::CALL_TIME;
use super::policies::messages;
use super::sandbox::map_not_found;
use super::{Gateway, Generation, v0_0, v0_1};
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::pb::wire::{self, FieldReader, FieldValue, MalformedMessage};

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

/// Which chunks are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DraftStatus {
    /// All.
    Any,
    /// Those that are not decided yet.
    Pending,
}

impl DraftStatus {
    /// Returns the filter of a request.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Pending => "pending",
        }
    }
}

/// A time in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkTime {
    /// When it was submitted first.
    Created,
    /// When it was decided.
    Decided,
    /// When the connection was refused first.
    FirstSeen,
    /// When it was refused last.
    LastSeen,
}

/// A network rule that an agent asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftChunk {
    /// The gateway's id.
    pub id: String,
    /// Status.
    pub status: ChunkStatus,
    /// Name of the rule under which it is merged into the policy.
    pub rule_name: String,
    /// The encoded rule, as the gateway sent it; empty if it sent none.
    pub proposed_rule: Bytes,
    /// Why the agent wants it, in its words.
    pub rationale: String,
    /// Notes of the gateway about the rule.
    pub security_notes: String,
    /// Where the proposal comes from.
    pub stage: String,
    /// How often the connection was refused.
    pub hits: u32,
    /// When it was submitted first.
    pub created_at: Option<Timestamp>,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// When the connection was refused first.
    pub first_seen_at: Option<Timestamp>,
    /// When it was refused last.
    pub last_seen_at: Option<Timestamp>,
    /// Path of the program.
    pub binary: String,
    /// The verdict of the gateway's prover.
    pub validation_result: String,
    /// Why it was rejected.
    pub rejection_reason: String,
    /// Why it cannot be merged; empty if it can.
    pub application_error: String,
    /// Proves to the gateway what a reviewer has seen.
    pub review_token: String,
    /// The gateway's hash of the policy in force when the chunk was evaluated.
    pub current_effective_hash: String,
    /// The gateway's hash of the policy in force with the rule.
    pub candidate_effective_hash: String,
    /// The encoded policy in force when the chunk was evaluated.
    pub current_effective_policy: Option<Bytes>,
    /// The encoded policy in force with the rule; `None` if it cannot be merged.
    pub candidate_effective_policy: Option<Bytes>,
}

/// The chunks of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftList {
    /// All of them, in the order of the gateway.
    Complete(Vec<DraftChunk>),
    /// They are larger than a message can be, and none is known.
    Overflowing,
}

impl Gateway {
    /// Returns the draft chunks of a sandbox.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist; those of the call. An answer that cannot be read completely is an
    /// error.
    pub async fn draft_chunks(
        &self,
        sandbox: &SandboxName,
        status: DraftStatus,
    ) -> Result<DraftList, Error> {
        let request = self.encode_get_drafts(sandbox, status);
        let answer = match self.unary(LIST, &request, CALL_TIME).await {
            Err(_) if self.answer_was_too_large() => return Ok(DraftList::Overflowing),
            answer => answer.map_err(map_not_found(sandbox))?,
        };
        let chunks = read_chunks(self.generation(), &answer);
        chunks.map(DraftList::Complete).map_err(|_| self.unreadable(LIST))
    }

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
        let request = self.encode_get_drafts(sandbox, DraftStatus::Any);
        let answer = self.unary(LIST, &request, CALL_TIME).await;
        let answer = answer.map_err(map_not_found(sandbox))?;
        find_status(&answer, chunk).map_err(|_| self.unreadable(LIST))
    }

    fn encode_get_drafts(&self, sandbox: &SandboxName, status: DraftStatus) -> Vec<u8> {
        match self.generation() {
            Generation::V0_0 => v0_0::encode_get_drafts(sandbox, status),
            Generation::V0_1 => v0_1::encode_get_drafts(sandbox, status),
        }
    }
}

/// Reads every chunk of an answer.
fn read_chunks(
    generation: Generation,
    answer: &Bytes,
) -> Result<Vec<DraftChunk>, MalformedMessage> {
    let sent = messages(answer, CHUNKS)?.into_iter();
    let chunks = sent.map(|sent| read_chunk(generation, answer, sent));
    let chunks: Vec<DraftChunk> = chunks.collect::<Result<_, _>>()?;
    // Which of two chunks with one id a decision is about would be a guess.
    let ids: HashSet<&str> = chunks.iter().map(|chunk| chunk.id.as_str()).collect();
    if ids.len() < chunks.len() {
        return Err(MalformedMessage);
    }
    Ok(chunks)
}

/// Reads one chunk, which is a part of `answer`. Rules and policies remain encoded.
fn read_chunk(
    generation: Generation,
    answer: &Bytes,
    sent: &[u8],
) -> Result<DraftChunk, MalformedMessage> {
    let mut chunk = DraftChunk::empty();
    let (mut fields, mut rule) = (FieldReader::new(sent), None);
    while let Some((number, value)) = fields.next_field()? {
        let time = match generation {
            Generation::V0_0 => v0_0::chunk_time(number, value),
            Generation::V0_1 => v0_1::chunk_time(number, value),
        };
        if let Some((time, at)) = time {
            *chunk.time_mut(time) = at;
            continue;
        }
        let message = match number {
            4 => &mut rule,
            23 => &mut chunk.current_effective_policy,
            24 => &mut chunk.candidate_effective_policy,
            _ => {
                chunk.set(number, value)?;
                continue;
            }
        };
        // Decoders merge the parts of a message that is sent in several: what they would make of it is not known here.
        let (FieldValue::Bytes(encoded), None) = (value, &message) else {
            return Err(MalformedMessage);
        };
        *message = Some(answer.slice_ref(encoded));
    }
    chunk.proposed_rule = rule.unwrap_or_default();
    Ok(chunk)
}

impl DraftChunk {
    /// Returns a chunk of which nothing is known. It may be approved.
    pub(crate) fn empty() -> Self {
        Self {
            id: String::new(),
            status: ChunkStatus::MaybeApproved,
            rule_name: String::new(),
            proposed_rule: Bytes::new(),
            rationale: String::new(),
            security_notes: String::new(),
            stage: String::new(),
            hits: 0,
            created_at: None,
            decided_at: None,
            first_seen_at: None,
            last_seen_at: None,
            binary: String::new(),
            validation_result: String::new(),
            rejection_reason: String::new(),
            application_error: String::new(),
            review_token: String::new(),
            current_effective_hash: String::new(),
            candidate_effective_hash: String::new(),
            current_effective_policy: None,
            candidate_effective_policy: None,
        }
    }

    fn time_mut(&mut self, time: ChunkTime) -> &mut Option<Timestamp> {
        match time {
            ChunkTime::Created => &mut self.created_at,
            ChunkTime::Decided => &mut self.decided_at,
            ChunkTime::FirstSeen => &mut self.first_seen_at,
            ChunkTime::LastSeen => &mut self.last_seen_at,
        }
    }

    /// Sets a field that both generations have. Others are ignored.
    fn set(&mut self, number: u32, value: FieldValue<'_>) -> Result<(), MalformedMessage> {
        let to = match number {
            ID => &mut self.id,
            STATUS => {
                self.status = ChunkStatus::parse(text(value)?);
                return Ok(());
            }
            3 => &mut self.rule_name,
            5 => &mut self.rationale,
            6 => &mut self.security_notes,
            11 => &mut self.stage,
            13 => {
                let FieldValue::Varint(hits) = value else { return Err(MalformedMessage) };
                self.hits = u32::try_from(hits).unwrap_or_default();
                return Ok(());
            }
            16 => &mut self.binary,
            17 => &mut self.validation_result,
            18 => &mut self.rejection_reason,
            19 => &mut self.application_error,
            20 => &mut self.review_token,
            21 => &mut self.current_effective_hash,
            22 => &mut self.candidate_effective_hash,
            _ => return Ok(()),
        };
        text(value)?.clone_into(to);
        Ok(())
    }
}

fn text(value: FieldValue<'_>) -> Result<&str, MalformedMessage> {
    let FieldValue::Bytes(bytes) = value else { return Err(MalformedMessage) };
    std::str::from_utf8(bytes).map_err(|_| MalformedMessage)
}

fn find_status(answer: &[u8], chunk: &str) -> Result<Option<ChunkStatus>, MalformedMessage> {
    let mut status = None;
    for found in messages(answer, CHUNKS)? {
        let mut fields = FieldReader::new(found);
        while fields.next_field()?.is_some() {}
        if wire::text_at(found, &[ID]).is_some_and(|id| id == chunk) {
            let word = wire::text_at(found, &[STATUS]).unwrap_or_default();
            if status.replace(ChunkStatus::parse(word)).is_some() {
                return Err(MalformedMessage);
            }
        }
    }
    Ok(status)
}
