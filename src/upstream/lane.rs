//! The kinds of calls that a connection carries, and the receive windows that they need.
//!
//! Invariants
//! - the receive window of a connection is at least the sum of the windows of all streams that it may carry: streams
//!   that their callers do not read fill only their own windows and never that of the connection;
//! - a call with a request stream shares its connection with no other call: a gateway may leave a request body unread,
//!   and with it the window that it grants to the whole connection.

use crate::access::policy::{StreamingMode, UpstreamMethod};

/// The kind of calls that a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Unary calls: many per connection.
    Unary,
    /// Calls with one request message and a response stream: many per connection.
    Streams,
    /// Calls with a request stream: one per connection at a time.
    Exclusive,
}

/// Window of a unary response, in bytes. A larger response needs more than one round trip.
const UNARY_WINDOW: u32 = 64 << 10;
/// Maximum number of stream handles on a unary connection. A call holds up to three until its response begins, then
/// one.
const UNARY_HANDLES_MAX: u32 = 1_024;
/// Window of a response stream, in bytes: command output and logs need more than the protocol's default of 64 KiB.
const STREAMS_WINDOW: u32 = 256 << 10;
/// Maximum number of stream handles on a connection for response streams.
const STREAMS_HANDLES_MAX: u32 = 192;
/// Window of the response of an exclusive call, in bytes: the downstream direction of a terminal or a tunnel.
const EXCLUSIVE_WINDOW: u32 = 512 << 10;
/// Maximum number of streams on an exclusive connection: the call, and the `Health` call that probes or proves the
/// connection before it.
const EXCLUSIVE_STREAMS_MAX: u32 = 2;

impl Lane {
    /// Returns the lane of a method, given its rows in both generations.
    pub(crate) fn for_method(rows: [Option<&UpstreamMethod>; 2]) -> Self {
        let lanes = rows.into_iter().flatten().map(|row| match row.streaming {
            StreamingMode::Unary => Self::Unary,
            StreamingMode::Server => Self::Streams,
            StreamingMode::Client | StreamingMode::Both => Self::Exclusive,
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

    /// Number of stream handles at which a connection accepts no further stream. Each stream has at least one.
    pub(crate) fn handles_max(self) -> usize {
        match self {
            Self::Unary => UNARY_HANDLES_MAX as usize,
            Self::Streams => STREAMS_HANDLES_MAX as usize,
            Self::Exclusive => 1,
        }
    }
}
