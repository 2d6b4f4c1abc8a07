//! State that a follower keeps in memory between passes. On another replica it begins without, which only costs work.

use std::collections::HashMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::log_memory::LogMemory;
use super::pace::Pace;
use super::settled::Settled;
use crate::config::Gateways;
use crate::db::types::SandboxName;
use crate::openshell::drafts::DraftChunk;
use crate::openshell::settings::ApprovalMode;
use crate::resources::approvals::drafts::DraftFacts;
use crate::seal::join_parts;

/// Interval at which a sandbox with much to read is read.
const LARGE_AFTER: Duration = Duration::from_mins(1);
/// From this number of bytes on, there is much to read.
const LARGE_BYTES: usize = 1 << 20;
/// Interval at which it is tried again whether the drafts of a sandbox can be read.
const OVERFLOWING_AFTER: Duration = Duration::from_mins(5);

/// Minimum time between two reads of one log: the interval of passes by default, less its jitter.
const LOGS_EVERY: Duration = Duration::from_secs(13);

/// State of one gateway between passes.
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
    /// Data that the last pass read; `None` if it wrote something or failed.
    pub(super) settled: Option<Settled>,
    /// Maximum time of a pass; `None` for that of the configured interval.
    pub(super) pass_time_max: Option<Duration>,
}

/// State of one sandbox between passes.
#[derive(Debug, Default)]
pub(super) struct SandboxMemory {
    /// When it was last read.
    pub(super) read_at: Option<Instant>,
    /// Not before this time, without a hint.
    pub(super) not_before: Option<Instant>,
    /// Whether it could not be read when it was tried last.
    pub(super) has_failed: bool,
    /// Bytes of its drafts when they were last read.
    pub(super) draft_bytes: usize,
    /// The gateway's id and resource version for which the chunks were compared.
    pub(super) compared: (String, u64),
    /// The chunks that were compared then.
    pub(super) chunks: HashMap<String, Compared>,
    /// Stored state of the sandbox: drafts without a round by reason, and whether they overflow.
    pub(super) stored: Option<(i32, i32, bool)>,
    /// Whether rounds were opened that were not announced.
    pub(super) is_unannounced: bool,
    /// The gateway's id of the sandbox, if it was new when it was listed last.
    pub(super) first_seen: Option<String>,
    /// Its log.
    pub(super) logs: LogMemory,
}

/// A chunk as it was compared: of a fixed size, since an agent chooses how long its texts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compared {
    /// Of everything that makes it outdated with any change.
    digest: [u8; 32],
    /// The numbers and times that it shows.
    facts: DraftFacts,
}

impl Compared {
    /// Returns what is compared of a chunk.
    pub(super) fn of(chunk: &DraftChunk) -> Self {
        let DraftFacts {
            rule_name,
            rationale,
            stage,
            binary,
            hits,
            last_seen,
            was_rejected,
            quoting,
            ..
        } = DraftFacts::of(chunk);
        let digest = Sha256::digest(join_parts(&[
            chunk.rule_name.as_bytes(),
            &chunk.proposed_rule,
            chunk.validation_result.as_bytes(),
            chunk.security_notes.as_bytes(),
            chunk.application_error.as_bytes(),
            rule_name.as_bytes(),
            rationale.as_bytes(),
            stage.as_bytes(),
            binary.as_bytes(),
        ]));
        let facts = DraftFacts { hits, last_seen, was_rejected, quoting, ..DraftFacts::default() };
        Self { digest: digest.into(), facts }
    }

    /// Returns whether a chunk must be compared again.
    pub(super) fn is_outdated_by(&self, new: &Self) -> bool {
        self.digest != new.digest || self.facts.is_outdated_by(&new.facts)
    }
}

impl Memory {
    /// Creates an empty state.
    #[must_use]
    pub fn new(config: &Gateways) -> Self {
        Self {
            pace: Pace::new(config),
            sandboxes: HashMap::new(),
            modes: HashMap::new(),
            last_mode: None,
            last_pin: 0,
            logs_every: LOGS_EVERY,
            settled: None,
            pass_time_max: None,
        }
    }

    /// Limits the time of each pass. For tests.
    #[must_use]
    pub fn with_pass_time_max(self, pass_time_max: Duration) -> Self {
        Self { pass_time_max: Some(pass_time_max), ..self }
    }

    /// Returns whether a pass over the same reads only what may have changed. For tests.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled.is_some()
    }
}

impl SandboxMemory {
    /// Notes whether the drafts could be read. A sandbox whose drafts cannot be read comes after all others.
    pub(super) fn note_outcome(&mut self, is_read: bool) {
        self.has_failed = !is_read;
        if !is_read {
            self.read_at = Some(Instant::now());
        }
    }

    /// Notes a read of the drafts: a read of many bytes is repeated later.
    pub(super) fn note_read(&mut self, bytes: usize, is_overflowing: bool) {
        let now = Instant::now();
        self.read_at = Some(now);
        self.draft_bytes = bytes;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::openshell::drafts::ChunkStatus;

    fn chunk() -> DraftChunk {
        DraftChunk {
            id: "c".to_owned(),
            status: ChunkStatus::Pending,
            rule_name: "allow".to_owned(),
            proposed_rule: Bytes::from_static(b"rule"),
            hits: 5,
            ..DraftChunk::empty()
        }
    }

    #[test]
    fn a_chunk_is_compared_again_when_anything_that_is_reviewed_or_shown_has_changed() {
        let before = Compared::of(&chunk());
        let changed = |change: fn(&mut DraftChunk)| {
            let mut chunk = chunk();
            change(&mut chunk);
            before.is_outdated_by(&Compared::of(&chunk))
        };
        assert!(!changed(|_| {}));
        assert!(!changed(|chunk| chunk.hits = 9));
        assert!(!changed(|chunk| "t".clone_into(&mut chunk.review_token)));
        let all: [fn(&mut DraftChunk); 10] = [
            |chunk| chunk.proposed_rule = Bytes::from_static(b"other"),
            |chunk| chunk.hits = 10,
            |chunk| chunk.status = ChunkStatus::Rejected,
            |chunk| "x".clone_into(&mut chunk.rule_name),
            |chunk| "x".clone_into(&mut chunk.validation_result),
            |chunk| "x".clone_into(&mut chunk.security_notes),
            |chunk| "x".clone_into(&mut chunk.application_error),
            |chunk| "x".clone_into(&mut chunk.rationale),
            |chunk| "x".clone_into(&mut chunk.stage),
            |chunk| "x".clone_into(&mut chunk.binary),
        ];
        for change in all {
            assert!(changed(change));
        }
    }

    #[test]
    fn t20_what_is_remembered_of_a_chunk_does_not_grow_with_its_texts() {
        let long = "x".repeat(1 << 20);
        let large = DraftChunk {
            proposed_rule: Bytes::from(long.clone()),
            rationale: long.clone(),
            security_notes: long.clone(),
            validation_result: long,
            ..chunk()
        };
        let remembered = format!("{:?}", Compared::of(&large));
        assert!(remembered.len() < 1_024, "{remembered}");
    }
}
