//! A call as the layers know it, and what is noted of it on its way.

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

/// What the layers found out about a call; the one extension that travels with it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Ours, also where the caller sent one that could not be used.
    pub request_id: Uuid,
    /// When it arrived.
    pub at: Timestamp,
    /// When it arrived, for durations.
    pub started: Instant,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Where it comes from.
    pub client_ip: Option<IpAddr>,
    /// Who calls, where that is known.
    pub caller: Option<Caller>,
    /// Path of the method, in the table's own bytes.
    pub method: &'static str,
    /// What the audit log is to know.
    pub note: Arc<Note>,
    /// The `traceparent` that a gateway gets in place of the caller's, where the call is traced.
    pub traceparent: Option<http::HeaderValue>,
    /// What the call holds in memory; `None` for work that no caller waits for.
    pub held: Option<Held>,
    /// Whether the caller takes the answer; `None` for work that no caller waits for.
    pub taking: Option<Arc<Taking>>,
}

/// What is noted of a call on its way, for the audit log.
#[derive(Debug, Default)]
pub struct Note {
    pub(super) state: Mutex<Noted>,
    pub(super) guard: OnceLock<Guard>,
    /// Whether a gateway may have acted for the call and has not told: an error of the call says nothing then.
    pub(crate) unanswered: Unanswered,
}

/// The content of a [`Note`].
#[derive(Debug, Default)]
pub struct Noted {
    /// Why the call was not let through. Recorded when the call is answered, at the latest when the note is dropped.
    pub refused: Option<Refusal>,
    /// The gateway that the caller selected, of a call that the gate refused.
    pub selected: Option<NamedGateway>,
    /// The intent that waits for its outcome.
    pub entry: Option<OpenEntry>,
    /// What the domain added.
    pub detail: Map<String, Value>,
    /// Of a stream: bytes from the caller, bytes to the caller.
    pub bytes: Option<(u64, u64)>,
    /// What the call turned out to be about, where the message could not say.
    pub named: Option<String>,
    /// The intent was taken out of the call by work that outlives it, which closes it.
    pub deferred: bool,
    /// The key under which the caller may repeat the call.
    pub idempotency_key: Option<String>,
    /// The gateway and role that the call turned out to need, if only the stored object told.
    pub settled: Option<Settled>,
    /// How far a write has come whose caller may stop waiting.
    pub progress: Progress,
}

/// The gateway of a loaded object and the least role that the call needed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The gateway.
    pub gateway: GatewayId,
    /// The least role; none for the owner of the object.
    pub needed: Role,
}

/// How far a write has come. Decided once, so that a call has one outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Progress {
    /// Nothing was done.
    #[default]
    Waiting,
    /// The write runs to its end and records itself.
    Begun,
    /// The deadline has passed first: nothing is done any more.
    Late,
}

impl Noted {
    /// Begins a write, unless its deadline has passed.
    #[must_use]
    pub fn begin(&mut self) -> bool {
        if self.progress == Progress::Waiting {
            self.progress = Progress::Begun;
        }
        self.progress == Progress::Begun
    }

    /// Gives up a write whose deadline has passed. Returns whether it had not begun.
    #[must_use]
    pub fn give_up(&mut self) -> bool {
        if self.progress == Progress::Waiting {
            self.progress = Progress::Late;
        }
        self.progress == Progress::Late
    }
}

impl Note {
    /// The content.
    pub fn lock(&self) -> MutexGuard<'_, Noted> {
        self.state.lock()
    }
}
