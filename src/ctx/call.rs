//! A call as the layers know it, and the notes that are taken on it for the audit log.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::refusal::{Guard, Refusal};
use crate::access::principal::Caller;
use crate::audit::OpenEntry;
use crate::clock::Timestamp;
use crate::db::types::{GatewayId, NamedGateway};
use crate::fair::Held;
use crate::net::taking::Taking;
use crate::role::Role;
use crate::upstream::unanswered::Unanswered;

/// What the layers found out about a call: the only request extension that they pass on.
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
    pub note: Arc<Note>,
    /// The `traceparent` that a gateway gets in place of the caller's, if the call is traced.
    pub traceparent: Option<http::HeaderValue>,
    /// The memory that the call holds; `None` for work that no caller waits for.
    pub held: Option<Held>,
    /// Whether the caller is reading the response; `None` for work that no caller waits for.
    pub taking: Option<Arc<Taking>>,
}

/// Notes on a call for the audit log, collected while it is processed.
#[derive(Debug, Default)]
pub struct Note {
    pub(super) state: Mutex<Noted>,
    pub(super) guard: OnceLock<Guard>,
    /// Whether a gateway may have acted on the call without reporting the result. An error of the call is inconclusive
    /// then.
    pub(crate) unanswered: Unanswered,
}

/// The content of a [`Note`].
#[derive(Debug, Default)]
pub struct Noted {
    /// Why the call was refused. Recorded when the call is answered, at the latest when the note is dropped.
    pub refused: Option<Refusal>,
    /// The gateway that the caller selected, if the gate refused the call.
    pub selected: Option<NamedGateway>,
    /// The open audit entry, which waits for its outcome.
    pub entry: Option<OpenEntry>,
    /// Details that the domain added.
    pub detail: Map<String, Value>,
    /// Bytes of a stream: from the caller, to the caller.
    pub bytes: Option<(u64, u64)>,
    /// The target of the call, if the message did not contain it.
    pub named: Option<String>,
    /// Whether work that outlives the call has taken over the audit entry and will close it.
    pub deferred: bool,
    /// The idempotency key of the call.
    pub idempotency_key: Option<String>,
    /// The gateway and role that the call needed, if they depend on the stored object.
    pub settled: Option<Settled>,
    /// Progress of a write whose caller may stop waiting.
    pub progress: Progress,
}

/// The gateway of a loaded object, and the least role that the call needed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The gateway.
    pub gateway: GatewayId,
    /// The least role; [`Role::None`] for the owner of the object.
    pub needed: Role,
}

/// Progress of a write. Decided once, so that a call has one outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Progress {
    /// Nothing was done yet.
    #[default]
    Waiting,
    /// The write runs to its end and records itself.
    Begun,
    /// The deadline passed before the write began; nothing will be done.
    Late,
}

impl Noted {
    /// Begins a write. Returns `false` if its deadline has passed.
    #[must_use]
    pub fn begin(&mut self) -> bool {
        if self.progress == Progress::Waiting {
            self.progress = Progress::Begun;
        }
        self.progress == Progress::Begun
    }

    /// Abandons a write whose deadline has passed. Returns `false` if it has already begun.
    #[must_use]
    pub fn give_up(&mut self) -> bool {
        if self.progress == Progress::Waiting {
            self.progress = Progress::Late;
        }
        self.progress == Progress::Late
    }
}

impl Note {
    /// Locks the content.
    pub fn lock(&self) -> MutexGuard<'_, Noted> {
        self.state.lock()
    }
}
