//! Operations: work that outlives the call that began it.
//!
//! Invariants
//! - an operation that is active has an owner, a replica, which holds a lease on it by its heartbeat on the database's
//!   clock; only where that has expired another takes it over, or ends it as `orphaned`. How long it runs is no matter;
//! - every write of an owner is filtered on the fence of its lease: one that was frozen past it writes nothing more;
//! - of one kind, and of one named thing on one gateway and in one workspace, one operation is active at a time; what may
//!   run in parallel never collides;
//! - an operation ends once, whatever happens to its work, and its end is in the audit log and among the events, failures
//!   also;
//! - work stops when its caller loses the right to it: its credential is revoked, or its role no longer suffices;
//! - results are sealed at rest and bounded; what a command has said is shown to whoever ran it and to admins of the
//!   gateway, by ids that never change;
//! - no client makes a query a second: a process polls once for all that wait.

mod begin;
pub mod domain;
pub mod feed;
mod finish;
pub mod keeper;
pub mod of_gateway;
pub mod patience;
mod result;
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
use crate::error::{Error, Reason, Said};
use crate::words;

pub use self::begin::{begin, start};
pub use self::run::Running;
pub use self::store::Operation;

/// Most bytes of what a takeover needs to go on.
pub const INPUT_BYTES_MAX: usize = 2 << 20;
/// Longest text of a failure or of a progress, in characters.
pub const TEXT_CHARS_MAX: usize = 500;
/// Longest name of a step, in characters.
pub const STEP_CHARS_MAX: usize = 1_000;

words! {
    /// What an operation does.
    pub enum OperationKind {
        /// Makes a sandbox.
        Sandbox = "sandbox",
        /// Runs a command in a sandbox.
        Exec = "exec",
    }
}

impl OperationKind {
    /// Every audit action that begins one of this kind.
    #[must_use]
    pub fn action(self) -> Action {
        match self {
            Self::Sandbox => Action::SANDBOX_CREATE,
            Self::Exec => Action::SANDBOX_EXEC,
        }
    }

    /// Whether another replica can go on with one. A running command cannot: its output went with the connection.
    #[must_use]
    pub fn is_resumable(self) -> bool {
        match self {
            Self::Sandbox => true,
            Self::Exec => false,
        }
    }
}

words! {
    /// Why an operation failed, for programs.
    pub enum Code {
        /// A fault of the server.
        Internal = "internal",
        /// It took too long.
        Timeout = "timeout",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
        /// Its replica went away, and nobody could go on with it.
        Orphaned = "orphaned",
        /// The gateway did not answer.
        GatewayUnreachable = "gateway_unreachable",
        /// The gateway or a rule of ours did not allow it.
        Refused = "refused",
    }
}

impl Code {
    /// The gRPC status that the audit log shows.
    #[must_use]
    pub fn grpc(self) -> i32 {
        match self {
            Self::Cancelled => 1,
            Self::Timeout => 4,
            Self::Refused => 9,
            Self::Orphaned => 10,
            Self::Internal => 13,
            Self::GatewayUnreachable => 14,
        }
    }
}

/// An operation to begin.
#[derive(Debug)]
pub struct New<'a> {
    /// What it does.
    pub kind: OperationKind,
    /// The workspace; empty is `default`.
    pub workspace: &'a str,
    /// The sandbox; empty where the gateway is to name it.
    pub sandbox: &'a str,
    /// Whether no other one of the kind may be active for the same sandbox; without a name there is no same one.
    pub exclusive: bool,
    /// Whether its result is what a command has said.
    pub keeps_output: bool,
    /// What a takeover needs to go on, at most [`INPUT_BYTES_MAX`]. It is sealed, and gone with the end.
    pub input: Option<Vec<u8>>,
}

/// Why work has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people: no secret, and what a gateway said is cut and without control characters when it is stored.
    pub message: String,
    /// How the parts went that were done by then, where there are some: kept and shown as a result is.
    pub result: Option<Value>,
}

impl Failure {
    /// One of a code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), result: None }
    }

    /// The work has seen that it was cancelled, and stopped.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Code::Cancelled, "the operation was cancelled")
    }

    /// The same, and how the parts went that were done by then; what it had said of them before stays.
    #[must_use]
    pub fn with(mut self, result: Value) -> Self {
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
                Code::Internal
            }
            Error::Unavailable { reason: Reason::GatewayUnreachable, .. }
            | Error::Gateway { said: Said::Unavailable | Said::Late | Said::Uncertain, .. } => {
                Code::GatewayUnreachable
            }
            Error::Unavailable { .. } => Code::Internal,
            Error::Late { .. } => Code::Timeout,
            Error::Invalid { .. }
            | Error::Missing { .. }
            | Error::Exists { .. }
            | Error::Conflict { .. }
            | Error::Refused { .. }
            | Error::Denied { .. }
            | Error::Unauthenticated { .. }
            | Error::Exhausted { .. }
            | Error::OutOfRange { .. }
            | Error::Gateway { .. }
            | Error::Unimplemented { .. } => Code::Refused,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::upstream::said::harmless;

    #[test]
    fn a_failure_tells_what_the_caller_can_do_and_no_more() {
        let unreachable = Error::unavailable(Reason::GatewayUnreachable, "it does not answer");
        for (error, code, message) in [
            (unreachable, Code::GatewayUnreachable, "it does not answer"),
            (Error::internal("relation x does not exist"), Code::Internal, "a fault of the server"),
            (Error::Late { why: "too slow".to_owned() }, Code::Timeout, "too slow"),
            (Error::missing(Kind::Sandbox, "a"), Code::Refused, "sandbox `a` does not exist"),
        ] {
            assert_eq!(Failure::from(error), Failure::new(code, message));
        }
    }

    #[test]
    fn texts_are_cut_and_plain() {
        assert_eq!(harmless("a\u{1b}[31mb\nc", TEXT_CHARS_MAX), "a [31mb c");
        assert_eq!(harmless(&"\u{e4}".repeat(501), TEXT_CHARS_MAX).chars().count(), TEXT_CHARS_MAX);
    }
}
