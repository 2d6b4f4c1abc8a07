//! The reviewed content as it is stored, and its digest.
//!
//! Invariant: the digest covers everything that decides the effect of the change. Version numbers, annotations and the
//! spelling of a document are no part of it, so that votes survive a revision that changes only those.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::governance::{Action, Rule};
use crate::policy::Policy;
use crate::resources::approvals::drafts::content::{DraftContent, DraftFacts, UndoContent};
use crate::seal::{hex, join_parts};
use crate::upstream::generation::Generation;

/// Separates digests of rounds from other digests.
const DIGEST_DOMAIN: &[u8] = b"shoreguard.round.v1";
/// Maximum size of a stored content, in bytes.
pub const CONTENT_BYTES_MAX: usize = 600 << 10;
/// Number of bytes of the length of the base in a stored policy.
const LENGTH_BYTES: usize = 4;
/// Maximum length of a text in a summary, in characters.
pub const SUMMARY_CHARACTERS_MAX: usize = 1_000;

/// The reviewed content.
#[derive(Debug, Clone)]
pub enum Content {
    /// A complete policy and what it replaces.
    Policy(Box<PolicyContent>),
    /// A change of a rule.
    Rule(Box<RuleContent>),
    /// A rule that an agent proposed.
    Draft(Box<DraftContent>),
    /// The removal of such a rule.
    Undo(Box<UndoContent>),
}

/// A complete policy and what it replaces, both in the canonical form.
#[derive(Debug, Clone)]
pub struct PolicyContent {
    /// The newest revision when the round was opened.
    pub base: Policy,
    /// The policy to write.
    pub candidate: Policy,
}

/// A weaker workflow or pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "it is in a box")]
pub enum RuleContent {
    /// A workflow.
    Workflow {
        /// Id of the workflow.
        id: i64,
        /// The version that is reviewed.
        version: i64,
        /// The rule now.
        before: Rule,
        /// The rule afterwards; `None` if it is deleted.
        after: Option<Rule>,
    },
    /// A pin.
    Pin {
        /// Id of the pin.
        id: i64,
        /// The version that is reviewed.
        version: i64,
        /// When it ends now, in microseconds since 1970; `None` if it does not.
        before: Option<i64>,
        /// When it ends afterwards, in microseconds since 1970; `None` if it is removed.
        after: Option<i64>,
    },
}

/// Facts about a content that lists show, and its authors. Computed when the round is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Comment of the proposer.
    pub comment: String,
    /// Number of values that the change adds.
    pub added: u32,
    /// Number of values that it removes.
    pub removed: u32,
    /// Number of values that it changes.
    pub changed: u32,
    /// Ids of the users behind authors and owner at that time, of the predecessor too. No list shows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<i64>,
    /// Facts of the gateway about a proposed rule. They are no part of the content, and are refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<DraftFacts>,
}

/// The parts of a digest besides the content.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds<'a> {
    /// The gateway's id of the sandbox.
    pub sandbox_id: Option<&'a str>,
    /// The gateway's hash of the policy in force.
    pub effective_hash: Option<&'a str>,
    /// Duration of what is granted, in minutes.
    pub grant_minutes: Option<i32>,
}

/// Returns the digest by which a content is found that is reviewed again, on this version, while the round that has
/// written it before has not ended.
#[must_use]
pub fn digest_again(digest: &str, base_version: Option<i64>) -> String {
    let version = base_version.unwrap_or_default().to_be_bytes();
    hex(&Sha256::digest(join_parts(&[DIGEST_DOMAIN, digest.as_bytes(), &version])))
}

impl Content {
    /// Returns what a round of this content decides about.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::Policy(_) => Action::PolicyApply,
            Self::Rule(_) => Action::RuleChange,
            Self::Draft(_) => Action::DraftApprove,
            Self::Undo(_) => Action::DraftUndo,
        }
    }

    /// Returns the id of the chunk by which a round is found; `None` for a content that is found by its digest, and for
    /// a proposed rule, whose round can move to another chunk.
    #[must_use]
    pub fn chunk_id(&self) -> Option<&str> {
        match self {
            Self::Undo(content) => Some(&content.chunk_id),
            Self::Policy(_) | Self::Rule(_) | Self::Draft(_) => None,
        }
    }

    /// Returns the wire generation of the content.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        match self {
            Self::Policy(content) => Some(content.candidate.generation()),
            Self::Rule(_) => None,
            Self::Draft(content) => Some(content.result.generation()),
            Self::Undo(content) => Some(content.before.generation()),
        }
    }

    /// Returns the digest of the base.
    #[must_use]
    pub fn base_digest(&self) -> Option<String> {
        match self {
            Self::Policy(content) => Some(content.base.digest()),
            Self::Rule(_) | Self::Draft(_) | Self::Undo(_) => None,
        }
    }

    /// Returns the digest of what is reviewed.
    ///
    /// # Errors
    /// `Internal` if it cannot be encoded.
    pub fn digest(&self, bounds: &Bounds<'_>) -> Result<String, Error> {
        let encoded = self.encode()?;
        let generation = self.generation().map_or("", Generation::as_str);
        let grant = bounds.grant_minutes.map(|minutes| minutes.to_string());
        let parts: [&[u8]; 7] = [
            DIGEST_DOMAIN,
            self.action().as_str().as_bytes(),
            bounds.sandbox_id.unwrap_or_default().as_bytes(),
            generation.as_bytes(),
            bounds.effective_hash.unwrap_or_default().as_bytes(),
            grant.as_deref().unwrap_or_default().as_bytes(),
            &encoded,
        ];
        Ok(hex(&Sha256::digest(join_parts(&parts))))
    }

    /// Encodes it for storage.
    ///
    /// # Errors
    /// `Invalid` if it is above the limit.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let encoded = match self {
            Self::Policy(content) => {
                let (base, candidate) = (content.base.encoded(), content.candidate.encoded());
                let length = u32::try_from(base.len()).map_err(Error::internal)?;
                [&length.to_be_bytes()[..], base, candidate].concat()
            }
            Self::Rule(content) => serde_json::to_vec(content).map_err(Error::internal)?,
            Self::Draft(content) => content.encode(),
            Self::Undo(content) => content.encode(),
        };
        if encoded.len() > CONTENT_BYTES_MAX {
            let why = format!(
                "and the policy that it replaces must have at most {CONTENT_BYTES_MAX} bytes together"
            );
            return Err(Error::invalid("policy", why));
        }
        Ok(encoded)
    }

    /// Decodes a stored content.
    ///
    /// # Errors
    /// `Internal` if it was not stored by [`Self::encode`].
    pub fn decode(
        action: Action,
        generation: Option<Generation>,
        stored: &[u8],
    ) -> Result<Self, Error> {
        match (action, generation) {
            (Action::PolicyApply, Some(generation)) => {
                let (base, candidate) = split(stored)?;
                let base = Policy::decode(generation, base)?;
                let candidate = Policy::decode(generation, candidate)?;
                Ok(Self::Policy(Box::new(PolicyContent { base, candidate })))
            }
            (Action::RuleChange, _) => {
                serde_json::from_slice(stored).map(Self::Rule).map_err(Error::internal)
            }
            (Action::DraftApprove, Some(generation)) => {
                let content = DraftContent::decode(generation, stored)?;
                Ok(Self::Draft(Box::new(content)))
            }
            (Action::DraftUndo, Some(generation)) => {
                let content = UndoContent::decode(generation, stored)?;
                Ok(Self::Undo(Box::new(content)))
            }
            (
                Action::PolicyApply
                | Action::DraftApprove
                | Action::DraftUndo
                | Action::OverrideReview,
                _,
            ) => Err(Error::internal(format!("a content of `{action}` that is not known"))),
        }
    }
}

fn split(stored: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let bad = || Error::internal("a stored policy without its length");
    let (length, rest) = stored.split_first_chunk::<LENGTH_BYTES>().ok_or_else(bad)?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATION: Generation = Generation::V0_1;

    fn policy(host: &str) -> Policy {
        let text = format!(
            "version: 1\nnetwork_policies:\n  a:\n    endpoints:\n      - {{ host: {host}, port: 443 }}\n    binaries:\n      - {{ path: /usr/bin/curl }}\n"
        );
        Policy::from_yaml(GENERATION, "yaml", &text).unwrap()
    }

    fn content(base: &str, candidate: &str) -> Content {
        let (base, candidate) = (policy(base), policy(candidate));
        Content::Policy(Box::new(PolicyContent { base, candidate }))
    }

    #[test]
    fn a_stored_policy_is_read_as_it_was() {
        let stored = content("a.example.com", "b.example.com");
        let encoded = stored.encode().unwrap();
        let read = Content::decode(Action::PolicyApply, Some(GENERATION), &encoded).unwrap();
        assert_eq!(read.encode().unwrap(), encoded);
        for length in 0..LENGTH_BYTES {
            let cut = &encoded[..length];
            assert!(Content::decode(Action::PolicyApply, Some(GENERATION), cut).is_err());
        }
    }

    #[test]
    fn the_digest_covers_base_candidate_sandbox_effective_hash_and_duration() {
        let bounds =
            Bounds { sandbox_id: Some("id"), effective_hash: Some("h"), ..Bounds::default() };
        let of = |content: &Content, bounds: &Bounds<'_>| content.digest(bounds).unwrap();
        let first = content("a.example.com", "b.example.com");
        let others = [
            of(&content("a.example.com", "c.example.com"), &bounds),
            of(&content("c.example.com", "b.example.com"), &bounds),
            of(&first, &Bounds { sandbox_id: Some("other"), ..bounds }),
            of(&first, &Bounds { effective_hash: Some("other"), ..bounds }),
            of(&first, &Bounds { grant_minutes: Some(5), ..bounds }),
            of(&first, &Bounds { sandbox_id: None, ..bounds }),
        ];
        let digest = of(&first, &bounds);
        assert_eq!(digest.len(), 64);
        assert!(!others.contains(&digest));
        assert_eq!(of(&content("a.example.com", "b.example.com"), &bounds), digest);
    }

    #[test]
    fn a_change_of_a_rule_is_stored_as_json() {
        let pin = RuleContent::Pin { id: 1, version: 2, before: None, after: Some(3) };
        let encoded = Content::Rule(Box::new(pin.clone())).encode().unwrap();
        let Content::Rule(read) = Content::decode(Action::RuleChange, None, &encoded).unwrap()
        else {
            panic!()
        };
        assert_eq!(*read, pin);
        assert!(Content::decode(Action::RuleChange, None, b"{}").is_err());
    }
}
