//! Operations: work that outlives the call that began it.
//!
//! Invariants
//! - an active operation has an owner: a replica that holds and renews a lease on it, by the database's clock. Another
//!   replica takes the operation over, or ends it as `orphaned`, only after the lease has expired. There is no limit on
//!   how long an operation runs;
//! - every write of an owner is filtered on the fence of its lease: a replica that was frozen beyond its lease writes
//!   nothing more;
//! - at most one exclusive operation of a kind is active for a sandbox name in a workspace of a gateway. Other
//!   operations run in parallel and never conflict;
//! - an operation ends exactly once, even if its work panics or its replica crashes. Its end, success or failure, is in
//!   the audit log and emitted as an event;
//! - work stops when its caller loses the right to it: its credential is revoked, or its role no longer suffices;
//! - results are sealed at rest and limited in size. The output of a command is shown to the caller that ran it and to
//!   admins of the gateway, identified by ids that never change;
//! - waiting clients do not each poll the database: a process polls once a second for all of them.

mod begin;
pub mod domain;
pub mod feed;
mod finish;
mod follow;
pub mod leases;
pub mod of_gateway;
mod result;
pub mod retry;
mod right;
pub mod rpc;
mod run;
mod sight;
pub mod state;
pub mod store;
pub mod takeover;
pub mod worker;

use std::fmt;

use serde_json::Value;
use tracing::error;

use crate::access::action::Action;
use crate::error::{Error, GatewayRefusal, Reason};
use crate::words;

pub use self::begin::{begin, check_room, start};
pub use self::run::RunningOperation;
pub use self::store::Operation;

/// Most bytes of the input that a takeover needs.
pub const INPUT_BYTES_MAX: usize = 2 << 20;
/// Longest text of a failure or a progress message, in characters.
pub const TEXT_CHARS_MAX: usize = 500;
/// Longest name of a step, in characters.
pub const STEP_CHARS_MAX: usize = 1_000;

words! {
    /// Kind of an operation.
    pub enum OperationKind {
        /// Creates a sandbox.
        Sandbox = "sandbox",
        /// Runs a command in a sandbox.
        Exec = "exec",
        /// Writes an approved policy.
        Policy = "policy",
    }
}

impl OperationKind {
    /// Returns the audit action that begins an operation of this kind.
    #[must_use]
    pub fn action(self) -> Action {
        match self {
            Self::Sandbox => Action::SANDBOX_CREATE,
            Self::Exec => Action::SANDBOX_EXEC,
            Self::Policy => Action::APPROVAL_APPLY,
        }
    }

    /// Returns whether another replica can resume the work. It cannot resume a running command, whose output is lost
    /// with the connection.
    #[must_use]
    pub fn is_resumable(self) -> bool {
        match self {
            Self::Sandbox | Self::Policy => true,
            Self::Exec => false,
        }
    }
}

words! {
    /// Machine-readable reason of a failure.
    pub enum FailureCode {
        /// Internal error of the server.
        Internal = "internal",
        /// The work timed out.
        Timeout = "timeout",
        /// The operation was canceled.
        Cancelled = "cancelled",
        /// Its replica crashed or stopped, and no other replica could resume it.
        Orphaned = "orphaned",
        /// The gateway did not respond.
        GatewayUnreachable = "gateway_unreachable",
        /// The gateway or a rule of Shoreguard rejected it.
        Refused = "refused",
        /// What it was based on was changed at the same time.
        ConcurrentChange = "concurrent_change",
    }
}

impl FailureCode {
    /// Returns the gRPC status that the audit log shows.
    #[must_use]
    pub fn grpc(self) -> i32 {
        match self {
            Self::Cancelled => 1,
            Self::Timeout => 4,
            Self::Refused => 9,
            Self::Orphaned | Self::ConcurrentChange => 10,
            Self::Internal => 13,
            Self::GatewayUnreachable => 14,
        }
    }
}

/// An operation to begin.
#[derive(Debug)]
pub struct NewOperation<'a> {
    /// Its kind.
    pub kind: OperationKind,
    /// The workspace. Empty selects `default`.
    pub workspace: &'a str,
    /// The sandbox. Empty if the gateway chooses the name.
    pub sandbox: &'a str,
    /// Whether only one operation of this kind may be active for the sandbox. Has no effect without a sandbox name.
    pub exclusive: bool,
    /// Key that no other active operation of the kind has, at most 253 characters. `None` for a key that follows from
    /// the sandbox and `exclusive`.
    pub key: Option<&'a str>,
    /// Whether its result is the output of a command.
    pub keeps_output: bool,
    /// Input that a takeover needs, at most [`INPUT_BYTES_MAX`]. It is stored sealed and deleted when the operation
    /// ends.
    pub input: Option<Vec<u8>>,
}

/// Failure of the work of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Machine-readable reason.
    pub code: FailureCode,
    /// Message for people. It contains no secret; text from a gateway is truncated and stripped of control characters
    /// when it is stored.
    pub message: String,
    /// Outcome of the parts that were done, if any. Stored and shown like a result.
    pub result: Option<Value>,
}

impl Failure {
    /// Creates a failure without a result.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), result: None }
    }

    /// Failure of work that stopped because it was canceled.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(FailureCode::Cancelled, "the operation was canceled")
    }

    /// Adds the outcome of the parts that were done. A result that is already set stays.
    #[must_use]
    pub fn with_result(mut self, result: Value) -> Self {
        self.result.get_or_insert(result);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Internal(source) => {
                error!(error = &**source, "the work of an operation failed");
                FailureCode::Internal
            }
            Error::Unavailable { reason: Reason::GatewayUnreachable, .. }
            | Error::Gateway {
                refusal:
                    GatewayRefusal::Unavailable
                    | GatewayRefusal::DeadlineExceeded
                    | GatewayRefusal::Uncertain
                    | GatewayRefusal::Broken(_),
                ..
            } => FailureCode::GatewayUnreachable,
            Error::Unavailable { .. } => FailureCode::Internal,
            Error::DeadlineExceeded { .. } => FailureCode::Timeout,
            Error::Conflict { .. } | Error::Gateway { refusal: GatewayRefusal::Changed, .. } => {
                FailureCode::ConcurrentChange
            }
            Error::Invalid { .. }
            | Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::Refused { .. }
            | Error::Explained { .. }
            | Error::Denied { .. }
            | Error::Unauthenticated { .. }
            | Error::Exhausted { .. }
            | Error::OutOfRange { .. }
            | Error::Gateway { .. }
            | Error::Unimplemented { .. } => FailureCode::Refused,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ResourceKind;
    use crate::upstream::errors::sanitize;

    #[test]
    fn a_failure_has_a_code_and_hides_internal_causes() {
        let unreachable = Error::unavailable(Reason::GatewayUnreachable, "it does not answer");
        for (error, code, message) in [
            (unreachable, FailureCode::GatewayUnreachable, "it does not answer"),
            (
                Error::internal("relation x does not exist"),
                FailureCode::Internal,
                "internal error: the server's log has the cause under the id of the request or operation",
            ),
            (
                Error::DeadlineExceeded { why: "too slow".to_owned() },
                FailureCode::Timeout,
                "too slow",
            ),
            (
                Error::not_found(ResourceKind::Sandbox, "a"),
                FailureCode::Refused,
                "sandbox `a` does not exist",
            ),
            (
                Error::conflict(ResourceKind::Sandbox, "a"),
                FailureCode::ConcurrentChange,
                "sandbox `a` has changed since it was read: read it again and retry",
            ),
            (
                Error::Gateway {
                    gateway: "edge".to_owned(),
                    refusal: GatewayRefusal::Changed,
                    why: "it has changed".to_owned(),
                },
                FailureCode::ConcurrentChange,
                "gateway `edge` says: it has changed",
            ),
        ] {
            assert_eq!(Failure::from(error), Failure::new(code, message));
        }
    }

    #[test]
    fn texts_are_truncated_and_control_characters_removed() {
        assert_eq!(sanitize("a\u{1b}[31mb\nc", TEXT_CHARS_MAX), "a [31mb c");
        assert_eq!(sanitize(&"\u{e4}".repeat(501), TEXT_CHARS_MAX).chars().count(), TEXT_CHARS_MAX);
    }
}
