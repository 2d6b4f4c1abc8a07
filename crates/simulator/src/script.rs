//! Scripted failures, and a record of received calls: how tests simulate a faulty gateway.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::Hold;

/// Maximum number of counted paths, since a caller can invent any number of them.
const PATHS_MAX: usize = 1_000;

/// How a call fails.
#[derive(Debug, Clone)]
pub enum Script {
    /// No response is ever sent.
    Hang,
    /// The call is carried out after this delay.
    Delay(Duration),
    /// The call is carried out when the test cancels this token.
    Until(CancellationToken),
    /// The call is not carried out; headers are sent, then this status in the trailers.
    Fail {
        /// The status code.
        code: Code,
        /// The status message.
        message: String,
        /// The encoded `google.rpc.Status` of `grpc-status-details-bin`; empty for none.
        details: Bytes,
    },
    /// The call is not carried out; one block of headers contains the status and ends the stream.
    TrailersOnly {
        /// The status code; `Ok` is possible and means an empty response.
        code: Code,
        /// The status message.
        message: String,
    },
    /// The call is carried out; its stream is reset within the first message.
    Reset,
    /// The call is carried out; its connection is dropped instead of a response.
    Disconnect,
    /// The call is not carried out; its connection is dropped.
    DisconnectBefore,
    /// The call is carried out; this status is sent instead of its response.
    ReplaceAnswer {
        /// The status code.
        code: Code,
        /// The status message.
        message: String,
        /// The encoded `google.rpc.Status` of `grpc-status-details-bin`; empty for none.
        details: Bytes,
    },
    /// The call is carried out after the hold is released.
    HoldBefore(Hold),
    /// The call is carried out; its response is sent after the hold is released.
    HoldAfter(Hold),
    /// The call is carried out; its response is sent in pieces of at most `bytes`, one per interval.
    Drip {
        /// Maximum size of a piece, at least 1. `usize::MAX` means whole frames.
        bytes: usize,
        /// Delay before each piece.
        every: Duration,
    },
}

/// The calls that a script applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next calls.
    Next(u32),
    /// All calls, until the script is cleared.
    All,
}

impl Times {
    /// Counts one use. Returns whether it was the last.
    pub(super) fn use_once(&mut self) -> bool {
        match self {
            Self::All => false,
            Self::Next(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
        }
    }
}

/// A call as it arrived.
#[derive(Debug, Clone)]
pub struct ReceivedCall {
    /// Headers, including all metadata.
    pub headers: HeaderMap,
    /// The `:authority` header.
    pub authority: Option<String>,
}

/// The scripts, and the received calls.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    state: Mutex<ScriptState>,
}

#[derive(Debug, Default)]
struct ScriptState {
    scripts: HashMap<String, (Script, Times)>,
    calls: BTreeMap<String, u64>,
    last: HashMap<String, ReceivedCall>,
}

/// Returns the method's name, the last part of its path.
fn method_name(method: &str) -> &str {
    method.rsplit('/').next().unwrap_or(method)
}

impl Scripts {
    /// Makes calls of a method fail from now on.
    pub(super) fn set(&self, method: &str, script: Script, times: Times) {
        self.lock().scripts.insert(method_name(method).to_owned(), (script, times));
    }

    /// Removes all scripts.
    pub(super) fn clear(&self) {
        self.lock().scripts.clear();
    }

    /// Records a call and returns the script that applies to it.
    pub(super) fn next(&self, path: &str, call: ReceivedCall) -> Option<Script> {
        let mut state = self.lock();
        if state.calls.len() < PATHS_MAX || state.calls.contains_key(path) {
            *state.calls.entry(path.to_owned()).or_default() += 1;
            state.last.insert(method_name(path).to_owned(), call);
        }
        let (script, times) = state.scripts.get_mut(method_name(path))?;
        let script = script.clone();
        if times.use_once() {
            state.scripts.remove(method_name(path));
        }
        Some(script)
    }

    /// Number of calls, by path.
    pub(super) fn calls(&self) -> BTreeMap<String, u64> {
        self.lock().calls.clone()
    }

    /// The last call of a method.
    pub(super) fn last(&self, method: &str) -> Option<ReceivedCall> {
        self.lock().last.get(method_name(method)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, ScriptState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
