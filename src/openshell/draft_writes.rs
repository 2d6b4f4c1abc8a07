//! Decides and changes draft chunks.
//!
//! Invariants
//! - each call is sent once, and without a request id;
//! - an approval carries the review token of the chunk as it was read: the gateway refuses it if anything on which the
//!   chunk depends has changed.

use std::time::Duration;

use super::policy_writes::WrittenRevision;
use super::{Gateway, Generation, v0_0, v0_1};
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::pb::wire;

const APPROVE: &str = "/openshell.v1.OpenShell/ApproveDraftChunk";
const REJECT: &str = "/openshell.v1.OpenShell/RejectDraftChunk";
const EDIT: &str = "/openshell.v1.OpenShell/EditDraftChunk";
const UNDO: &str = "/openshell.v1.OpenShell/UndoDraftChunk";
const CLEAR: &str = "/openshell.v1.OpenShell/ClearDraftChunks";

/// Field of the rule in an edit. Both generations have it.
const RULE_FIELD: u32 = 3;

impl Gateway {
    /// Approves a chunk: its rule is merged into the policy of the sandbox. The call ends at `until`, a time of the
    /// clock that includes sleep. Unless the error says so, a failed call may have written it.
    ///
    /// # Errors
    /// `Gateway` with `NotFound` if there is no such sandbox or chunk, and with the refusal of the gateway if the token
    /// is not that of the chunk, or what it depends on has changed.
    pub async fn approve_draft(
        &self,
        sandbox: &SandboxName,
        chunk: &str,
        review_token: &str,
        until: Duration,
    ) -> Result<WrittenRevision, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_approve_draft(sandbox, chunk, review_token),
            Generation::V0_1 => v0_1::encode_approve_draft(sandbox, chunk, review_token),
        };
        let answer = self.unary_until(APPROVE, &request, until).await?;
        let written = match self.generation() {
            Generation::V0_0 => v0_0::decode_draft_approved(&answer),
            Generation::V0_1 => v0_1::decode_draft_approved(&answer),
        };
        written.ok_or_else(|| self.unreadable(APPROVE))
    }

    /// Rejects a chunk. That of an approved one also removes its rule from the policy, so read its status before.
    ///
    /// # Errors
    /// `Gateway` with `NotFound` if there is no such sandbox or chunk, and with the refusal of the gateway if it is
    /// rejected already.
    pub async fn reject_draft(
        &self,
        sandbox: &SandboxName,
        chunk: &str,
        reason: &str,
        until: Duration,
    ) -> Result<(), Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_reject_draft(sandbox, chunk, reason),
            Generation::V0_1 => v0_1::encode_reject_draft(sandbox, chunk, reason),
        };
        self.unary_until(REJECT, &request, until).await?;
        Ok(())
    }

    /// Replaces the rule of a pending chunk. `rule` is encoded for the generation of the gateway.
    ///
    /// # Errors
    /// `Gateway` with `NotFound` if there is no such sandbox or chunk, and with the refusal of the gateway if it is not
    /// pending.
    pub async fn edit_draft(
        &self,
        sandbox: &SandboxName,
        chunk: &str,
        rule: &[u8],
        until: Duration,
    ) -> Result<(), Error> {
        let mut request = match self.generation() {
            Generation::V0_0 => v0_0::encode_edit_draft(sandbox, chunk),
            Generation::V0_1 => v0_1::encode_edit_draft(sandbox, chunk),
        };
        wire::put_bytes(&mut request, RULE_FIELD, rule);
        self.unary_until(EDIT, &request, until).await?;
        Ok(())
    }

    /// Makes an approved chunk pending again: its binary is removed from its rule, and the rule if no other is left.
    /// Unless the error says so, a failed call may have written it.
    ///
    /// # Errors
    /// `Gateway` with `NotFound` if there is no such sandbox or chunk, and with the refusal of the gateway if it is not
    /// approved.
    pub async fn undo_draft(
        &self,
        sandbox: &SandboxName,
        chunk: &str,
        until: Duration,
    ) -> Result<WrittenRevision, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_undo_draft(sandbox, chunk),
            Generation::V0_1 => v0_1::encode_undo_draft(sandbox, chunk),
        };
        let answer = self.unary_until(UNDO, &request, until).await?;
        let written = match self.generation() {
            Generation::V0_0 => v0_0::decode_draft_undone(&answer),
            Generation::V0_1 => v0_1::decode_draft_undone(&answer),
        };
        written.ok_or_else(|| self.unreadable(UNDO))
    }

    /// Deletes the pending chunks of a sandbox. Returns their number.
    ///
    /// # Errors
    /// `Gateway` with `NotFound` if there is no such sandbox.
    pub async fn clear_drafts(&self, sandbox: &SandboxName, until: Duration) -> Result<u32, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_clear_drafts(sandbox),
            Generation::V0_1 => v0_1::encode_clear_drafts(sandbox),
        };
        let answer = self.unary_until(CLEAR, &request, until).await?;
        let cleared = match self.generation() {
            Generation::V0_0 => v0_0::decode_drafts_cleared(&answer),
            Generation::V0_1 => v0_1::decode_drafts_cleared(&answer),
        };
        cleared.ok_or_else(|| self.unreadable(CLEAR))
    }
}
