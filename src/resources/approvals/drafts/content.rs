//! The reviewed content of a proposed rule, and of its removal.
//!
//! Invariant: both cover the rule as it will be in the policy, not only as it was proposed: a gateway merges a proposed
//! rule into a rule that exists.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::quoting::{Quoting, Room};
use crate::characters::is_invisible;
use crate::clock::Timestamp;
use crate::error::{Error, Reason};
use crate::openshell::drafts::{ChunkStatus, DraftChunk};
use crate::policy::{Edit, Policy};
use crate::seal::join_parts;
use crate::upstream::errors::without_credentials;
use crate::upstream::generation::Generation;

/// Maximum size of an encoded content, in bytes: proposed rule, resulting rules and findings.
pub const DRAFT_BYTES_MAX: usize = 64 << 10;
/// Maximum length of the id of a chunk, in bytes.
pub const CHUNK_ID_BYTES_MAX: usize = 100;
/// Maximum length of a shown rationale or note, in characters.
const TEXT_CHARACTERS_MAX: usize = 4_096;
/// Maximum length of another shown text, in characters.
pub const NAME_CHARACTERS_MAX: usize = 253;
/// Maximum length of a finding, in characters.
const FINDING_CHARACTERS_MAX: usize = 4_096;

/// A proposed rule.
#[derive(Debug, Clone)]
pub struct DraftContent {
    /// Name under which it is merged.
    pub rule_name: String,
    /// The proposed rule, as a policy that has nothing else.
    pub proposed: Policy,
    /// A policy with the rules that it changes, as they are afterwards. Without rules if the policy does not change.
    pub result: Policy,
    /// Findings of the gateway, sorted: lines of its verdict and of its notes, without control characters.
    pub findings: Vec<String>,
}

/// The removal of an approved rule.
#[derive(Debug, Clone)]
pub struct UndoContent {
    /// The gateway's id of the chunk.
    pub chunk_id: String,
    /// Name of the rule.
    pub rule_name: String,
    /// The rule now, as a policy that has nothing else.
    pub before: Policy,
    /// The rule afterwards, as a policy. Without rules if the rule is removed.
    pub after: Policy,
}

/// What a gateway reports about a proposed rule, without being part of what is reviewed. All texts are the words of the
/// gateway or of the agent, bounded and without invisible characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DraftFacts {
    /// Name of the rule.
    pub rule_name: String,
    /// Why the agent wants it.
    pub rationale: String,
    /// Where the proposal comes from.
    pub stage: String,
    /// Path of the program.
    pub binary: String,
    /// How often the connection was refused.
    pub hits: u32,
    /// When it was refused first, in microseconds since 1970; `None` if it is not known.
    pub first_seen: Option<i64>,
    /// When it was refused last, in microseconds since 1970; `None` if it is not known.
    pub last_seen: Option<i64>,
    /// Whether the gateway had it as rejected, so that a review of it does not end because it is not pending.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub was_rejected: bool,
    /// Counts of the changes that made these texts and the findings harmless.
    pub quoting: Quoting,
}

/// Returns whether a chunk can have a round: its id identifies a round, and must not look like that of a proposal.
#[must_use]
pub fn is_chunk_id(id: &str) -> bool {
    (1..=CHUNK_ID_BYTES_MAX).contains(&id.len()) && !id.contains(':') && !id.contains(is_invisible)
}

impl DraftContent {
    /// Computes what is reviewed of a chunk, on the newest revision of the policy.
    ///
    /// # Errors
    /// `Invalid` if the rule cannot be merged or its id cannot be that of a round, `POLICY_UNREADABLE` if it has a part
    /// that this build does not know, `LIMIT_REACHED` if it is too large to be reviewed.
    pub fn of(base: &Policy, chunk: &DraftChunk) -> Result<Self, Error> {
        if !is_chunk_id(&chunk.id) {
            let why = format!("must have 1 to {CHUNK_ID_BYTES_MAX} bytes, without `:`");
            return Err(Error::invalid("chunk_id", why));
        }
        let generation = base.generation();
        let proposed = Policy::of_rule(generation, &chunk.rule_name, &chunk.proposed_rule)?;
        let edit = Edit::add_proposed_rule(generation, &chunk.rule_name, &chunk.proposed_rule)?;
        let result = base.edited(&[edit])?.rules_changed_from(base)?;
        let content = Self {
            rule_name: chunk.rule_name.clone(),
            proposed,
            result,
            findings: findings(chunk, &mut Quoting::default()),
        };
        let bytes = content.encode().len();
        if bytes > DRAFT_BYTES_MAX {
            let why = format!(
                "the proposed rule and its result have {bytes} bytes, and at most {DRAFT_BYTES_MAX} are reviewed"
            );
            return Err(Error::refused(Reason::LimitReached, why));
        }
        Ok(content)
    }

    /// Returns whether a review of this content covers another one: everything is equal, but for findings that the
    /// other one does not have any more.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let parts = |content: &Self| {
            let generation = content.result.generation();
            (generation, content.proposed.encoded().to_vec(), content.result.encoded().to_vec())
        };
        let known: BTreeSet<&String> = self.findings.iter().collect();
        self.rule_name == other.rule_name
            && parts(self) == parts(other)
            && other.findings.iter().all(|finding| known.contains(finding))
    }

    pub(in crate::resources::approvals) fn encode(&self) -> Vec<u8> {
        let findings = self.findings.join("\n");
        join_parts(&[
            self.rule_name.as_bytes(),
            self.proposed.encoded(),
            self.result.encoded(),
            findings.as_bytes(),
        ])
    }

    pub(in crate::resources::approvals) fn decode(
        generation: Generation,
        stored: &[u8],
    ) -> Result<Self, Error> {
        let [rule_name, proposed, result, findings] = split(stored)?;
        Ok(Self {
            rule_name: text(rule_name)?.to_owned(),
            proposed: Policy::decode(generation, proposed)?,
            result: Policy::decode(generation, result)?,
            findings: text(findings)?.lines().map(str::to_owned).collect(),
        })
    }
}

impl UndoContent {
    pub(in crate::resources::approvals) fn encode(&self) -> Vec<u8> {
        join_parts(&[
            self.chunk_id.as_bytes(),
            self.rule_name.as_bytes(),
            self.before.encoded(),
            self.after.encoded(),
        ])
    }

    pub(in crate::resources::approvals) fn decode(
        generation: Generation,
        stored: &[u8],
    ) -> Result<Self, Error> {
        let [chunk_id, rule_name, before, after] = split(stored)?;
        Ok(Self {
            chunk_id: text(chunk_id)?.to_owned(),
            rule_name: text(rule_name)?.to_owned(),
            before: Policy::decode(generation, before)?,
            after: Policy::decode(generation, after)?,
        })
    }
}

impl DraftFacts {
    /// Returns what a gateway reports about a chunk.
    #[must_use]
    pub fn of(chunk: &DraftChunk) -> Self {
        let seen = |at: Option<Timestamp>| at.map(Timestamp::unix_micros);
        let mut quoting = Quoting::default();
        // A list does not show them, but says what was done to them.
        findings(chunk, &mut quoting);
        Self {
            rule_name: quoting.quote(&chunk.rule_name, NAME_CHARACTERS_MAX),
            rationale: quoting.quote(&without_credentials(&chunk.rationale), TEXT_CHARACTERS_MAX),
            stage: quoting.quote(&chunk.stage, NAME_CHARACTERS_MAX),
            binary: quoting.quote(&chunk.binary, NAME_CHARACTERS_MAX),
            hits: chunk.hits,
            first_seen: seen(chunk.first_seen_at),
            last_seen: seen(chunk.last_seen_at),
            was_rejected: chunk.status == ChunkStatus::Rejected,
            quoting,
        }
    }

    /// Cuts its texts to the room that is left, which the rationale gets last.
    pub fn fit(&mut self, room: &mut Room) {
        for text in [&mut self.rule_name, &mut self.binary, &mut self.stage, &mut self.rationale] {
            self.quoting.is_cut |= room.fit(text);
        }
    }

    /// Returns whether a list that shows `self` instead of `new` would mislead: another text, twice as many hits, or
    /// five minutes.
    #[must_use]
    pub fn is_outdated_by(&self, new: &Self) -> bool {
        const FIVE_MINUTES_MICROS: i64 = 300_000_000;
        let same_texts = self.rule_name == new.rule_name
            && self.rationale == new.rationale
            && self.stage == new.stage
            && self.binary == new.binary
            && self.quoting == new.quoting
            && self.was_rejected == new.was_rejected;
        let later =
            new.last_seen.unwrap_or_default().saturating_sub(self.last_seen.unwrap_or_default());
        !same_texts || new.hits / 2 >= self.hits.max(1) || later >= FIVE_MINUTES_MICROS
    }
}

/// Returns the findings of the gateway, sorted and without duplicates.
fn findings(chunk: &DraftChunk, quoting: &mut Quoting) -> Vec<String> {
    let lines = finding_lines(chunk);
    let lines = lines.map(|line| quoting.quote_reviewed(line.trim(), FINDING_CHARACTERS_MAX));
    let lines: BTreeSet<String> = lines.filter(|line| !line.is_empty()).collect();
    lines.into_iter().collect()
}

/// Returns the findings of the gateway as lines, unchanged. Lines that only count findings are left out: with fewer
/// findings, the count would be a new line.
fn finding_lines(chunk: &DraftChunk) -> impl Iterator<Item = String> {
    let error = chunk.application_error.lines().map(|line| format!("not applicable: {line}"));
    let verdict = chunk.validation_result.lines().filter(|line| !is_count(line));
    let notes = chunk.security_notes.lines();
    error.chain(verdict.chain(notes).map(str::to_owned))
}

/// Whether a line of a verdict only counts the findings that follow.
fn is_count(line: &str) -> bool {
    let Some(rest) = line.trim().strip_prefix("prover: ") else { return false };
    let Some((count, rest)) = rest.split_once(' ') else { return false };
    let is_number = count == "no" || count.bytes().all(|byte| byte.is_ascii_digit());
    is_number && matches!(rest, "new finding" | "new findings")
}

/// Splits a stored content into its parts: the inverse of [`join_parts`].
fn split<const N: usize>(stored: &[u8]) -> Result<[&[u8]; N], Error> {
    let bad = || Error::internal("a stored content that is not complete");
    let mut parts: [&[u8]; N] = [&[]; N];
    let mut rest = stored;
    for part in &mut parts {
        let (length, after) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
        let length = usize::try_from(u64::from_be_bytes(*length)).map_err(Error::internal)?;
        (*part, rest) = after.split_at_checked(length).ok_or_else(bad)?;
    }
    if rest.is_empty() { Ok(parts) } else { Err(bad()) }
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(Error::internal)
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
