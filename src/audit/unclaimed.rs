//! A stored intent until its caller has received it.
//!
//! Invariant: a stored intent reaches its caller or is closed, even if the caller hangs up in between.

use std::sync::Arc;
use tokio::sync::mpsc;

use super::batch::{OutcomeColumns, OutcomeUpdate};
use super::recorder::Shared;
use super::{Ending, Outcome};
use crate::clock::Clock;
use crate::db::types::AuditId;

/// gRPC's CANCELLED: the caller hung up.
const CODE_CANCELLED: i32 = 1;

/// A stored entry. It is closed if it is dropped before it is claimed.
#[derive(Debug)]
pub(super) struct UnclaimedEntry {
    id: AuditId,
    closer: Option<EntryCloser>,
}

/// Closes unclaimed entries.
#[derive(Debug, Clone)]
pub(super) struct EntryCloser {
    pub(super) closings: mpsc::UnboundedSender<OutcomeUpdate>,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
}

impl UnclaimedEntry {
    pub(super) fn new(id: AuditId, closer: &EntryCloser) -> Self {
        Self { id, closer: Some(closer.clone()) }
    }

    /// Takes the entry over.
    pub(super) fn claim(mut self) -> AuditId {
        self.closer = None;
        self.id
    }
}

impl Drop for UnclaimedEntry {
    fn drop(&mut self) {
        let Some(EntryCloser { closings, shared, clock }) = self.closer.take() else { return };
        let end = caller_gone_outcome(&clock);
        shared.unstored.send_modify(|count| *count += 1);
        if closings.send(OutcomeUpdate { id: self.id, end }).is_err() {
            // The writer has stopped: the entry will be closed as `unknown`, like those of a crashed replica.
            shared.unstored.send_modify(|count| *count -= 1);
        }
    }
}

/// The outcome of an entry whose caller hung up before anything happened.
pub(super) fn caller_gone_outcome(clock: &Clock) -> OutcomeColumns {
    nothing_happened_outcome(clock, CODE_CANCELLED, "the caller had disconnected")
}

/// The outcome of an entry whose action will not happen.
pub(super) fn nothing_happened_outcome(clock: &Clock, code: i32, why: &str) -> OutcomeColumns {
    OutcomeColumns::from(Outcome {
        detail: Some(serde_json::json!({ "nothing_happened": why })),
        ..Outcome::new(clock.now(), Ending::Failed, code)
    })
}
