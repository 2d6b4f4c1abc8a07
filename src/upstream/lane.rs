//! What kind of calls a connection carries, and the receive windows that follow from it.
//!
//! Invariants
//! - the receive window of a connection is at least the sum of the windows of all streams that it may carry: streams
//!   that their callers do not read fill their own windows and never the connection's;
//! - a call whose request streams shares its connection with no other call: a gateway may keep an unread request body
//!   and with it the window that it grants to the whole connection.

use crate::access::policy::{Streaming, UpstreamMethod};

/// The kind of calls that a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Unary calls: many on a connection.
    Unary,
    /// Calls with one request message and a stream of answers: many on a connection.
    Streams,
    /// Calls whose request streams: one on a connection at a time.
    Exclusive,
}

/// Bytes of an unread unary answer. A larger answer needs more than one round trip.
const UNARY_WINDOW: u32 = 64 << 10;
/// Handles of streams on a connection of unary calls. A call holds up to three until its answer has begun, then one.
const UNARY_HANDLES_MAX: u32 = 1_024;
/// Bytes of an unread stream of answers: output of commands and logs need more than the protocol's 64 KiB.
const STREAMS_WINDOW: u32 = 256 << 10;
/// The same for streams of answers.
const STREAMS_HANDLES_MAX: u32 = 192;
/// Bytes of an unread answer of a call that has its connection to itself: the way down of a terminal or a tunnel.
const EXCLUSIVE_WINDOW: u32 = 512 << 10;
/// The call itself, and what is asked on the connection before it starts.
const EXCLUSIVE_STREAMS_MAX: u32 = 2;

impl Lane {
    /// The lane of a method, given by its rows in either generation.
    pub(crate) fn of(rows: [Option<&UpstreamMethod>; 2]) -> Self {
        let lanes = rows.into_iter().flatten().map(|row| match row.streaming {
            Streaming::Unary => Self::Unary,
            Streaming::Server => Self::Streams,
            Streaming::Client | Streaming::Both => Self::Exclusive,
        });
        lanes.max_by_key(|lane| *lane as u8).unwrap_or(Self::Unary)
    }

    /// Receive window of a stream, in bytes.
    pub(crate) fn stream_window(self) -> u32 {
        match self {
            Self::Unary => UNARY_WINDOW,
            Self::Streams => STREAMS_WINDOW,
            Self::Exclusive => EXCLUSIVE_WINDOW,
        }
    }

    /// Receive window of a connection, in bytes.
    pub(crate) fn connection_window(self) -> u32 {
        match self {
            Self::Unary => UNARY_WINDOW * UNARY_HANDLES_MAX,
            Self::Streams => STREAMS_WINDOW * STREAMS_HANDLES_MAX,
            Self::Exclusive => EXCLUSIVE_WINDOW * EXCLUSIVE_STREAMS_MAX,
        }
    }

    /// Handles of streams that a connection may have before it takes no further stream. Each stream has at least one.
    pub(crate) fn handles_max(self) -> usize {
        match self {
            Self::Unary => UNARY_HANDLES_MAX as usize,
            Self::Streams => STREAMS_HANDLES_MAX as usize,
            Self::Exclusive => 1,
        }
    }
}
