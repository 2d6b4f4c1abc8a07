//! An intent on its way from the writer to its caller.
//!
//! Invariant: an intent that is stored reaches its caller or is closed, also if the caller goes between the two.

use std::sync::Arc;
use tokio::sync::mpsc;

use super::batch::{Closing, End};
use super::recorder::Shared;
use super::{Ending, Outcome};
use crate::clock::Clock;
use crate::db::types::AuditId;

/// gRPC's CANCELLED: the caller went away.
const CODE_CANCELLED: i32 = 1;

/// A stored entry. Dropped before it is claimed, it is closed.
#[derive(Debug)]
pub(super) struct Unclaimed {
    id: AuditId,
    desk: Option<Desk>,
}

/// Where unclaimed entries are closed.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) closings: mpsc::UnboundedSender<Closing>,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
}

impl Unclaimed {
    pub(super) fn new(id: AuditId, desk: &Desk) -> Self {
        Self { id, desk: Some(desk.clone()) }
    }

    /// Takes it over.
    pub(super) fn claim(mut self) -> AuditId {
        self.desk = None;
        self.id
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let Some(Desk { closings, shared, clock }) = self.desk.take() else { return };
        let end = caller_gone(&clock);
        shared.unstored.send_modify(|count| *count += 1);
        if closings.send(Closing { id: self.id, end }).is_err() {
            // The writer has stopped: the entry is closed as `unknown` like those of a dead replica.
            shared.unstored.send_modify(|count| *count -= 1);
        }
    }
}

/// How an entry ends whose caller had gone before anything happened.
pub(super) fn caller_gone(clock: &Clock) -> End {
    nothing_happened(clock, CODE_CANCELLED, "the caller had gone")
}

/// How an entry ends that nobody will act on.
pub(super) fn nothing_happened(clock: &Clock, code: i32, why: &str) -> End {
    End::from(Outcome {
        detail: Some(serde_json::json!({ "nothing_happened": why })),
        ..Outcome::new(clock.now(), Ending::Failed, code)
    })
}
