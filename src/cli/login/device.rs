//! A login on a host without a browser: it displays a code, which the user approves in a session on another host.

use std::time::Duration;

use tonic::{Code, Status};

use super::super::connect::{Client, Credential, Session, reason};
use super::super::{CliError, output};
use crate::clock::Clock;
use crate::pb::v1::{BeginDeviceLoginRequest, CompleteDeviceLoginRequest};

/// How long to wait if the codes do not expire before.
const LOGIN_TIME: Duration = Duration::from_mins(15);
/// Least pause between two questions to the server, and what is added if it was too short.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MORE: Duration = Duration::from_secs(5);

/// Displays a code, and waits until it is approved.
pub(super) async fn log_in(client: &Client) -> Result<Credential, CliError> {
    let (mut auth, request) = client.public(BeginDeviceLoginRequest {});
    let begun = auth.begin_device_login(request).await;
    let begun = begun.map_err(|status| client.failure(status))?.into_inner();
    output::print_error(&format!(
        "Your code is {}\nWhere you are logged in, run this command and type the code:\n  \
         shoreguard session approve-device --user-code prompt --decision approve --scope session",
        begun.user_code
    ));
    let mut pause = Duration::from_secs(begun.poll_interval_seconds.into()).max(PAUSE_MIN);
    let end = Clock::system().now().plus(LOGIN_TIME);
    // The first question is not a repeat, so it can be sooner.
    tokio::time::sleep(PAUSE_MIN).await;
    while Clock::system().now() < end {
        let device_code = begun.device_code.clone();
        let (mut auth, request) = client.public(CompleteDeviceLoginRequest { device_code });
        match auth.complete_device_login(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                output::print_error(&format!(
                    "{} has approved the code. If this is not your account, run `shoreguard logout`.",
                    answer.email
                ));
                return Ok(Credential::Session(Session::from_response(
                    answer.session_token,
                    answer.expire_time,
                    answer.refresh_token,
                    answer.refresh_expire_time,
                )));
            }
            Err(status) => match next(&status) {
                Next::Ask => {}
                Next::AskLater => pause += PAUSE_MORE,
                Next::End => return Err(client.failure(status)),
            },
        }
        tokio::time::sleep(pause).await;
    }
    Err(CliError::NotLoggedIn("the code was not approved in time".to_owned()))
}

/// Next step after a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The question is repeated after the pause.
    Ask,
    /// The question is repeated after a longer pause.
    AskLater,
    /// The login has failed.
    End,
}

fn next(status: &Status) -> Next {
    match reason(status).as_str() {
        "DEVICE_LOGIN_PENDING" => Next::Ask,
        "RATE_LIMITED" => Next::AskLater,
        _ if status.code() == Code::Unavailable => Next::Ask,
        _ => Next::End,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn only_a_decision_and_an_expired_code_end_the_wait() {
        for (code, reason, expected) in [
            (Code::FailedPrecondition, "DEVICE_LOGIN_PENDING", Next::Ask),
            (Code::ResourceExhausted, "RATE_LIMITED", Next::AskLater),
            (Code::Unavailable, "DRAINING", Next::Ask),
            (Code::PermissionDenied, "DEVICE_LOGIN_DENIED", Next::End),
            (Code::Unauthenticated, "CREDENTIAL_INVALID", Next::End),
            (Code::FailedPrecondition, "FEATURE_DISABLED", Next::End),
        ] {
            let details = ErrorDetails::with_error_info(reason, "shoreguard", HashMap::new());
            let status = Status::with_error_details(code, "no", details);
            assert_eq!(next(&status), expected, "{reason}");
        }
        assert_eq!(next(&Status::new(Code::Unavailable, "away")), Next::Ask);
    }
}
