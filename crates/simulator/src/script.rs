//! What the simulator does instead of answering, and what it was asked: how tests make a bad gateway.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tonic::Code;

/// Paths that are counted; a caller can make up any number of them.
const PATHS_MAX: usize = 1_000;

/// How a call goes wrong.
#[derive(Debug, Clone)]
pub enum Script {
    /// Nothing is ever answered.
    Hang,
    /// The call is carried out after this time.
    Delay(Duration),
    /// Nothing is carried out; headers are sent, and then this status in the trailers.
    Fail {
        /// The status code.
        code: Code,
        /// The status message.
        message: String,
        /// The encoded `google.rpc.Status` of `grpc-status-details-bin`; empty for none.
        details: Bytes,
    },
    /// Nothing is carried out; one block of headers holds the status and ends the stream.
    TrailersOnly {
        /// The status code; also `Ok`, which is an empty answer.
        code: Code,
        /// The status message.
        message: String,
    },
    /// The call is carried out; its stream is reset in the middle of the first message.
    Reset,
    /// The call is carried out; its connection is dropped instead of an answer.
    Disconnect,
    /// The call is carried out; its answer comes in pieces of at most so many bytes, one an interval.
    Drip {
        /// The size of a piece, at least 1. With `usize::MAX` it is a whole frame.
        bytes: usize,
        /// The time before each piece.
        every: Duration,
    },
}

/// For which calls a script holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next ones.
    Next(u32),
    /// All, until the script is cleared.
    All,
}

/// A call as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its headers, with all metadata.
    pub headers: HeaderMap,
    /// Its `:authority`.
    pub authority: Option<String>,
}

/// What was scripted, and what was seen.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    scripts: HashMap<String, (Script, Times)>,
    calls: BTreeMap<String, u64>,
    last: HashMap<String, Seen>,
}

/// The method's own name, which stands for its path.
fn short(method: &str) -> &str {
    method.rsplit('/').next().unwrap_or(method)
}

impl Scripts {
    /// From now on, calls of a method go wrong in this way.
    pub(super) fn set(&self, method: &str, script: Script, times: Times) {
        self.lock().scripts.insert(short(method).to_owned(), (script, times));
    }

    /// From now on, calls go well.
    pub(super) fn clear(&self) {
        self.lock().scripts.clear();
    }

    /// Notes a call and takes the script that holds for it.
    pub(super) fn next(&self, path: &str, seen: Seen) -> Option<Script> {
        let mut kept = self.lock();
        if kept.calls.len() < PATHS_MAX || kept.calls.contains_key(path) {
            *kept.calls.entry(path.to_owned()).or_default() += 1;
            kept.last.insert(short(path).to_owned(), seen);
        }
        let (script, times) = kept.scripts.get_mut(short(path))?;
        let script = script.clone();
        let over = match times {
            Times::All => false,
            Times::Next(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
        };
        if over {
            kept.scripts.remove(short(path));
        }
        Some(script)
    }

    /// Calls by path.
    pub(super) fn calls(&self) -> BTreeMap<String, u64> {
        self.lock().calls.clone()
    }

    /// The last call of a method.
    pub(super) fn last(&self, method: &str) -> Option<Seen> {
        self.lock().last.get(short(method)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
