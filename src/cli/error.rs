//! Why a command failed, and with which code it exits.
//!
//! Invariant: exit codes are a promise to scripts. `shoreguard help exit-codes` and docs/cli.md list them.

use std::fmt;
use std::io;

use tonic::{Code, Status};

use super::connect;
use crate::config::Faults;
use crate::error::{Error, error_chain};

/// The command was refused or failed, or a comparison found a difference.
pub(super) const FAILED: u8 = 1;
/// The command, its arguments or the configuration are wrong.
pub(super) const WRONG: u8 = 2;
/// The caller has no valid credential.
pub(super) const LOG_IN: u8 = 4;
/// The server could not answer now.
pub(super) const TRY_AGAIN: u8 = 5;
/// The answer is incomplete.
pub(super) const PARTIAL: u8 = 6;
/// The user interrupted the command.
pub(super) const INTERRUPTED: u8 = 130;

/// The reason why a command failed.
#[derive(Debug)]
pub(crate) enum CliError {
    /// The command or its arguments are wrong.
    Usage(String),
    /// The configuration is wrong.
    Config(Faults),
    /// The server refused or failed.
    Call(Box<Status>),
    /// The server refused fields of the request, which the text names as they are on the command line.
    Fields(Box<Status>, String),
    /// The caller has no credential, or its session has ended.
    NotLoggedIn(String),
    /// Something that the command needs is wrong or unavailable. The user of a command may see the cause.
    Internal(Error),
    /// The server could not be reached.
    Unreachable(String),
    /// Another program holds what the command needs.
    Busy(String),
    /// The result could not be written, or the connection was lost.
    Io(String),
    /// The answer was printed, but is incomplete: what is missing, one per line.
    Partial(String),
    /// The command ends with this code, after it has printed the text unless it is empty.
    Exit(u8, String),
    /// The user interrupted the command.
    Interrupted,
}

impl CliError {
    /// Returns the exit code.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => WRONG,
            Self::Call(status) | Self::Fields(status, _) => call_exit_code(status),
            Self::NotLoggedIn(_) => LOG_IN,
            Self::Internal(_) | Self::Io(_) => FAILED,
            Self::Unreachable(_) | Self::Busy(_) => TRY_AGAIN,
            Self::Partial(_) => PARTIAL,
            Self::Exit(code, _) => *code,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other codes are refusals")]
fn call_exit_code(status: &Status) -> u8 {
    match status.code() {
        Code::Unauthenticated => LOG_IN,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => TRY_AGAIN,
        // What the client library reports if its own timeout passes.
        Code::Cancelled if status.message() == "Timeout expired" => TRY_AGAIN,
        _ => FAILED,
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why)
            | Self::Io(why)
            | Self::NotLoggedIn(why)
            | Self::Unreachable(why)
            | Self::Busy(why)
            | Self::Partial(why)
            | Self::Exit(_, why) => f.write_str(why),
            Self::Config(faults) => write!(f, "{faults}"),
            Self::Call(status) => f.write_str(&connect::format_status(status)),
            Self::Fields(status, flags) => {
                write!(f, "{}\n{flags}", connect::format_status(status))
            }
            Self::Internal(error) => f.write_str(&error_chain(error)),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<Faults> for CliError {
    fn from(faults: Faults) -> Self {
        Self::Config(faults)
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        Self::Internal(error)
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(code: Code) -> u8 {
        CliError::from(Status::new(code, "why")).exit_code()
    }

    #[test]
    fn a_refusal_exits_with_1() {
        for code in [Code::NotFound, Code::PermissionDenied, Code::InvalidArgument, Code::Internal]
        {
            assert_eq!(code_of(code), 1, "{code:?}");
        }
        assert_eq!(CliError::Io("closed".to_owned()).exit_code(), 1);
    }

    #[test]
    fn a_wrong_command_exits_with_2() {
        assert_eq!(CliError::Usage("wrong".to_owned()).exit_code(), 2);
    }

    #[test]
    fn a_missing_or_invalid_credential_exits_with_4() {
        assert_eq!(code_of(Code::Unauthenticated), 4);
        assert_eq!(CliError::NotLoggedIn("ended".to_owned()).exit_code(), 4);
    }

    #[test]
    fn what_can_be_repeated_exits_with_5() {
        for code in [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded] {
            assert_eq!(code_of(code), 5, "{code:?}");
        }
        assert_eq!(CliError::Unreachable("away".to_owned()).exit_code(), 5);
        assert_eq!(CliError::Busy("locked".to_owned()).exit_code(), 5);
        let late = CliError::from(Status::new(Code::Cancelled, "Timeout expired"));
        assert_eq!(late.exit_code(), 5);
        assert_eq!(code_of(Code::Cancelled), 1);
    }

    #[test]
    fn an_incomplete_answer_exits_with_6_and_an_interruption_with_130() {
        assert_eq!(CliError::Partial("one gateway".to_owned()).exit_code(), 6);
        assert_eq!(CliError::Interrupted.exit_code(), 130);
    }

    #[test]
    fn a_command_can_choose_its_code() {
        assert_eq!(CliError::Exit(125, String::new()).exit_code(), 125);
    }
}
