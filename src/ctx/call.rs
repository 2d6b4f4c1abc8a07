//! A call as the layers know it, and the notes that are taken on it for the audit log.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::refusal::{Refusal, RefusalRecorder};
use crate::access::principal::Caller;
use crate::audit::OpenEntry;
use crate::clock::Timestamp;
use crate::db::types::{GatewayId, NamedGateway};
use crate::fair::MemoryAccount;
use crate::net::taking::ReadTracker;
use crate::role::Role;
use crate::upstream::unanswered::OutcomeUnknown;

/// Facts about a call that the layers found out: the only request extension that they pass on.
#[derive(Debug, Clone)]
pub struct Call {
    /// Id that Shoreguard generated, even if the caller sent an unusable one.
    pub request_id: Uuid,
    /// Time of arrival.
    pub at: Timestamp,
    /// Time of arrival on the monotonic clock, to measure durations.
    pub started: Instant,
    /// Deadline of the caller.
    pub deadline: Option<Instant>,
    /// Client address.
    pub client_ip: Option<IpAddr>,
    /// The caller, if it is known.
    pub caller: Option<Caller>,
    /// Path of the method, as a string of the method table.
    pub method: &'static str,
    /// Notes for the audit log.
    pub note: Arc<AuditNotes>,
    /// The `traceparent` that a gateway gets in place of the caller's, if the call is traced.
    pub traceparent: Option<http::HeaderValue>,
    /// The memory that the call holds; `None` for work that no caller waits for.
    pub memory: Option<MemoryAccount>,
    /// Whether the caller is reading the response; `None` for work that no caller waits for.
    pub read_tracker: Option<Arc<ReadTracker>>,
}

/// Notes on a call for the audit log, collected while it is processed.
#[derive(Debug, Default)]
pub struct AuditNotes {
    pub(super) state: Mutex<AuditNotesState>,
    pub(super) recorder: OnceLock<RefusalRecorder>,
    /// Whether a gateway may have acted on the call without reporting the result. An error of the call is inconclusive
    /// then.
    pub(crate) unanswered: OnceLock<OutcomeUnknown>,
}

/// The content of a [`AuditNotes`].
#[derive(Debug, Default)]
pub struct AuditNotesState {
    /// Why the call was refused. Recorded when the call is answered, at the latest when the note is dropped.
    pub refusal: Option<Refusal>,
    /// The gateway that the caller selected, if the gate refused the call.
    pub selected_gateway: Option<NamedGateway>,
    /// The open audit entry, which waits for its outcome.
    pub entry: Option<OpenEntry>,
    /// Details that the domain added.
    pub detail: Map<String, Value>,
    /// Bytes of a stream: from the caller, to the caller.
    pub bytes: Option<(u64, u64)>,
    /// The target of the call, if the message did not contain it.
    pub target: Option<String>,
    /// The audit entry, if work that outlives the call has taken it over and will close it.
    pub deferred: Option<OpenEntry>,
    /// The idempotency key of the call.
    pub idempotency_key: Option<String>,
    /// The gateway and role that the call needed, if they depend on the stored object.
    pub object_access: Option<ObjectAccess>,
    /// Progress of a write whose caller may stop waiting.
    pub progress: WriteProgress,
}

/// The gateway of a loaded object, and the least role that the call needed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectAccess {
    /// The gateway.
    pub gateway: GatewayId,
    /// The least role; [`Role::None`] for the owner of the object.
    pub needed: Role,
}

/// Progress of a write. Decided once, so that a call has one outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WriteProgress {
    /// Nothing was done yet.
    #[default]
    Waiting,
    /// The write runs to its end and records itself.
    Begun,
    /// The deadline passed before the write began; nothing will be done.
    Expired,
}

impl AuditNotesState {
    /// Begins a write. Returns `false` if its deadline has passed.
    #[must_use]
    pub fn begin_write(&mut self) -> bool {
        if self.progress == WriteProgress::Waiting {
            self.progress = WriteProgress::Begun;
        }
        self.progress == WriteProgress::Begun
    }

    /// Abandons a write whose deadline has passed. Returns `false` if it has already begun.
    #[must_use]
    pub fn expire(&mut self) -> bool {
        if self.progress == WriteProgress::Waiting {
            self.progress = WriteProgress::Expired;
        }
        self.progress == WriteProgress::Expired
    }
}

impl AuditNotes {
    /// Locks the content.
    pub fn lock(&self) -> MutexGuard<'_, AuditNotesState> {
        self.state.lock()
    }
}
