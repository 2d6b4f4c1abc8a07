//! What a follower remembers between passes. A follower on another replica begins without it, and only does more work.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::logs::LogMemory;
use super::pace::Pace;
use crate::config::Gateways;
use crate::db::types::SandboxName;
use crate::openshell::drafts::DraftChunk;
use crate::openshell::settings::ApprovalMode;
use crate::resources::approvals::drafts::DraftFacts;

/// Interval at which a sandbox with much to read is read.
const LARGE_AFTER: Duration = Duration::from_mins(1);
/// From this number of bytes on, there is much to read.
const LARGE_BYTES: usize = 1 << 20;
/// Interval at which it is tried again whether the drafts of a sandbox can be read.
const OVERFLOWING_AFTER: Duration = Duration::from_mins(5);

/// Minimum time between two reads of one log: the interval of passes by default, less its jitter.
const LOGS_EVERY: Duration = Duration::from_secs(13);

/// What is remembered of one gateway.
#[derive(Debug)]
pub struct Memory {
    pub(super) pace: Pace,
    pub(super) sandboxes: HashMap<SandboxName, SandboxMemory>,
    /// Approval modes of sandboxes under a workflow, as they were last read.
    pub(super) modes: HashMap<SandboxName, ApprovalMode>,
    /// Where the next pass continues: the sandbox whose mode was read last, and the pin that was compared last.
    pub(super) last_mode: Option<SandboxName>,
    pub(super) last_pin: i64,
    /// Minimum time between two reads of one log.
    pub(super) logs_every: Duration,
}

/// What is remembered of one sandbox.
#[derive(Debug, Default)]
pub(super) struct SandboxMemory {
    /// When it was last read.
    pub(super) read_at: Option<Instant>,
    /// Not before this time, without a hint.
    pub(super) not_before: Option<Instant>,
    /// The gateway's id and resource version for which the chunks were compared.
    pub(super) compared: (String, u64),
    /// The chunks that were compared then.
    pub(super) chunks: HashMap<String, Compared>,
    /// What is stored of the sandbox: drafts without a round by reason, and whether they overflow.
    pub(super) stored: Option<(i32, i32, bool)>,
    /// Whether rounds were opened that were not announced.
    pub(super) is_unannounced: bool,
    /// The gateway's id of the sandbox, if it was new when it was listed last.
    pub(super) first_seen: Option<String>,
    /// Its log.
    pub(super) logs: LogMemory,
}

/// A chunk as it was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compared {
    rule_name: String,
    rule: bytes::Bytes,
    texts: [String; 3],
    facts: DraftFacts,
}

impl Compared {
    /// Returns what is compared of a chunk.
    pub(super) fn of(chunk: &DraftChunk) -> Self {
        let texts = [&chunk.validation_result, &chunk.security_notes, &chunk.application_error];
        Self {
            rule_name: chunk.rule_name.clone(),
            // A copy: the bytes would keep the whole answer in memory.
            rule: bytes::Bytes::copy_from_slice(&chunk.proposed_rule),
            texts: texts.map(Clone::clone),
            facts: DraftFacts::of(chunk),
        }
    }

    /// Returns whether a chunk must be compared again.
    pub(super) fn is_outdated_by(&self, new: &Self) -> bool {
        let same =
            self.rule_name == new.rule_name && self.rule == new.rule && self.texts == new.texts;
        !same || self.facts.is_outdated_by(&new.facts)
    }
}

impl Memory {
    /// Creates it with nothing remembered.
    #[must_use]
    pub fn new(config: &Gateways) -> Self {
        Self {
            pace: Pace::new(config),
            sandboxes: HashMap::new(),
            modes: HashMap::new(),
            last_mode: None,
            last_pin: 0,
            logs_every: LOGS_EVERY,
        }
    }
}

impl SandboxMemory {
    /// Notes a read of the drafts: a read of many bytes, and a failed one, is repeated later.
    pub(super) fn note_read(&mut self, bytes: usize, is_overflowing: bool) {
        let now = Instant::now();
        self.read_at = Some(now);
        self.not_before = if is_overflowing {
            Some(now + OVERFLOWING_AFTER)
        } else if bytes >= LARGE_BYTES {
            Some(now + LARGE_AFTER)
        } else {
            None
        };
    }

    /// Returns whether it is too early to read it again.
    pub(super) fn is_too_early(&self) -> bool {
        self.not_before.is_some_and(|not_before| Instant::now() < not_before)
    }
}
