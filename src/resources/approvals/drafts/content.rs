//! What is reviewed of a proposed rule, and of its removal.
//!
//! Invariant: both cover the rule as it will be in the policy, not only as it was proposed: a gateway merges a proposed
//! rule into a rule that exists.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Reason};
use crate::names::is_invisible;
use crate::openshell::drafts::{ChunkStatus, DraftChunk};
use crate::policy::{Edit, Policy};
use crate::seal::join_parts;
use crate::upstream::errors::sanitize;
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
    /// The rules that it changes, as they are afterwards. It has none if the policy does not change.
    pub result: Policy,
    /// What the gateway has found, sorted: lines of its verdict and of its notes, without control characters.
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
    /// The rule afterwards. It has none if the rule is removed.
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
            findings: findings(chunk),
        };
        let bytes = content.encode().len();
        if bytes > DRAFT_BYTES_MAX {
            let why = format!(
                "the proposed rule with what it leads to has {bytes} bytes, and at most {DRAFT_BYTES_MAX} are reviewed"
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
        Self {
            rule_name: sanitize(&chunk.rule_name, NAME_CHARACTERS_MAX),
            rationale: sanitize(&chunk.rationale, TEXT_CHARACTERS_MAX),
            stage: sanitize(&chunk.stage, NAME_CHARACTERS_MAX),
            binary: sanitize(&chunk.binary, NAME_CHARACTERS_MAX),
            hits: chunk.hits,
            first_seen: seen(chunk.first_seen_at),
            last_seen: seen(chunk.last_seen_at),
            was_rejected: chunk.status == ChunkStatus::Rejected,
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
            && self.was_rejected == new.was_rejected;
        let later =
            new.last_seen.unwrap_or_default().saturating_sub(self.last_seen.unwrap_or_default());
        !same_texts || new.hits / 2 >= self.hits.max(1) || later >= FIVE_MINUTES_MICROS
    }
}

/// Returns what the gateway has found. Its verdicts that only count findings are left out: with fewer findings, the
/// count would be a new line.
fn findings(chunk: &DraftChunk) -> Vec<String> {
    let error = chunk.application_error.lines().map(|line| format!("not applicable: {line}"));
    let verdict = chunk.validation_result.lines().filter(|line| !is_count(line));
    let notes = chunk.security_notes.lines();
    let lines = error.chain(verdict.chain(notes).map(str::to_owned));
    let lines = lines.map(|line| sanitize(line.trim(), FINDING_CHARACTERS_MAX));
    let lines: BTreeSet<String> = lines.filter(|line| !line.is_empty()).collect();
    lines.into_iter().collect()
}

/// Whether a line of a verdict only counts the findings that follow.
fn is_count(line: &str) -> bool {
    let Some(rest) = line.trim().strip_prefix("prover: ") else { return false };
    let Some((count, rest)) = rest.split_once(' ') else { return false };
    let is_number = count == "no" || count.bytes().all(|byte| byte.is_ascii_digit());
    is_number && matches!(rest, "new finding" | "new findings")
}

/// Splits what [`join_parts`] has joined.
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
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::resources::approvals::drafts::samples::chunk;
    use shoreguard_proto::v0_1::openshell::sandbox::v1 as proto;

    const GENERATION: Generation = Generation::V0_1;

    fn empty() -> Policy {
        Policy::decode(GENERATION, &[]).unwrap()
    }

    fn with_findings(chunk: &DraftChunk, verdict: &str, notes: &str) -> DraftContent {
        let (security_notes, validation_result) = (notes.to_owned(), verdict.to_owned());
        let chunk = DraftChunk { security_notes, validation_result, ..chunk.clone() };
        DraftContent::of(&empty(), &chunk).unwrap()
    }

    #[test]
    fn a_stored_draft_is_read_as_it_was() {
        let content = with_findings(&chunk("c", "a.example"), "bad: x\n  worse: y", "note");
        assert_eq!(content.findings, ["bad: x", "note", "worse: y"]);
        let stored = content.encode();
        let read = DraftContent::decode(GENERATION, &stored).unwrap();
        assert_eq!(read.encode(), stored);
        assert!(content.covers(&read) && read.result.has_rules());
        for length in 0..stored.len() {
            assert!(DraftContent::decode(GENERATION, &stored[..length]).is_err(), "{length}");
        }
        let undo = UndoContent {
            chunk_id: "c".to_owned(),
            rule_name: "a".to_owned(),
            before: content.result,
            after: empty(),
        };
        let read = UndoContent::decode(GENERATION, &undo.encode()).unwrap();
        assert_eq!(read.encode(), undo.encode());
    }

    #[test]
    fn fewer_findings_are_covered_and_a_new_one_or_another_result_is_not() {
        let asked = chunk("c", "a.example");
        let none = with_findings(&asked, "prover: no new findings", "");
        let one = with_findings(&asked, "prover: 1 new finding\n  link: x", "");
        let two = with_findings(&asked, "prover: 2 new findings\n  link: x\n  link: y", "");
        assert!(none.findings.is_empty());
        assert!(two.covers(&one) && two.covers(&none) && one.covers(&none));
        assert!(!none.covers(&one) && !one.covers(&two));
        let other = with_findings(&chunk("c", "b.example"), "", "");
        assert!(!none.covers(&other));
        // A repeated ask has another id.
        assert!(none.covers(&with_findings(&chunk("d", "a.example"), "", "")));
        // The rule exists by now, so that the proposed one would change nothing.
        let base = empty().edited(&[Edit::add_proposed_rule(
            GENERATION,
            &asked.rule_name,
            &asked.proposed_rule,
        )
        .unwrap()]);
        let later = DraftContent::of(&base.unwrap(), &asked).unwrap();
        assert!(!later.result.has_rules() && !none.covers(&later));
    }

    #[test]
    fn t20_a_draft_that_is_too_large_or_has_the_id_of_a_proposal_is_not_reviewed() {
        let long = "x".repeat(101);
        for bad in ["", "policy.apply:1", "a\nb", "a\u{202e}b", long.as_str()] {
            assert!(!is_chunk_id(bad) && DraftContent::of(&empty(), &chunk(bad, "a")).is_err());
        }
        assert!(is_chunk_id(&"x".repeat(100)));
        let endpoints = (0..4_000).map(|n| proto::NetworkEndpoint {
            host: format!("host-{n}.example"),
            port: 443,
            ..Default::default()
        });
        let rule =
            proto::NetworkPolicyRule { endpoints: endpoints.collect(), ..Default::default() };
        let proposed_rule = Bytes::from(rule.encode_to_vec());
        let large = DraftChunk { proposed_rule, ..chunk("c", "a.example") };
        let error = DraftContent::of(&empty(), &large).unwrap_err();
        assert!(matches!(error, Error::Refused { reason: Reason::LimitReached, .. }), "{error}");
    }

    #[test]
    fn t20_a_draft_that_is_reviewed_has_at_most_64_kib() {
        let asked = chunk("c", "a.example");
        let without_notes = with_findings(&asked, "", "").encode().len();
        let of = |bytes: usize| {
            let bytes = bytes - without_notes;
            // Different lines of 64 bytes with their breaks. The first one fills what is left.
            let others = (bytes - 1) / 64;
            let first = std::iter::once("x".repeat(bytes - others * 64));
            let lines: Vec<String> = first.chain((0..others).map(|n| format!("{n:063}"))).collect();
            let security_notes = lines.join("\n");
            DraftContent::of(&empty(), &DraftChunk { security_notes, ..asked.clone() })
        };
        assert_eq!(of(DRAFT_BYTES_MAX).unwrap().encode().len(), DRAFT_BYTES_MAX);
        let error = of(DRAFT_BYTES_MAX + 1).unwrap_err();
        assert!(matches!(error, Error::Refused { reason: Reason::LimitReached, .. }), "{error}");
    }

    #[test]
    fn t20_texts_of_an_agent_have_no_characters_that_readers_do_not_see() {
        let text = "a\u{202e}b\u{200b}c\u{1b}d".to_owned();
        let (rationale, stage) = (text.clone(), text.clone());
        let asked =
            DraftChunk { rationale, stage, security_notes: text, ..chunk("c", "a.example") };
        let facts = DraftFacts::of(&asked);
        assert_eq!([facts.rationale.as_str(), facts.stage.as_str()], ["a b c d"; 2]);
        assert_eq!(DraftContent::of(&empty(), &asked).unwrap().findings, ["a b c d"]);
    }

    #[test]
    fn a_list_is_refreshed_when_what_it_shows_would_mislead() {
        let facts = DraftFacts { hits: 5, last_seen: Some(0), ..DraftFacts::default() };
        for (new, expected) in [
            (facts.clone(), false),
            (DraftFacts { hits: 9, ..facts.clone() }, false),
            (DraftFacts { hits: 10, ..facts.clone() }, true),
            (DraftFacts { last_seen: Some(299_999_999), ..facts.clone() }, false),
            (DraftFacts { last_seen: Some(300_000_000), ..facts.clone() }, true),
            (DraftFacts { rationale: "other".to_owned(), ..facts.clone() }, true),
        ] {
            assert_eq!(facts.is_outdated_by(&new), expected, "{new:?}");
        }
    }
}
