//! Formats a failed call as text: code, message, reason and google.rpc details.

use std::fmt::Write as _;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::cli::output::one_line;
use crate::status::code_name;

/// The reason of a refused login, which is not repeated with another one.
const LOGIN_FAILED: &str = "LOGIN_FAILED";
/// The header with the id of the call, as in the server's log.
const REQUEST_ID: &str = "x-request-id";

/// Prints each detail on its own line, so that one value cannot be mistaken for another.
pub(in crate::cli) fn format_status(status: &Status) -> String {
    let mut text = format!("{}: {}", code_name(status.code()), one_line(status_message(status)));
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        add_line(&mut text, "reason", &format!("{} ({})", info.reason, info.domain));
        let mut metadata: Vec<_> = info.metadata.iter().collect();
        metadata.sort();
        for (key, value) in metadata {
            add_line(&mut text, key, value);
        }
    }
    add_details(&mut text, &details, status.message());
    let is_failed_login = details.error_info().is_some_and(|info| info.reason == LOGIN_FAILED);
    if status.code() == Code::Unauthenticated && !is_failed_login {
        add_line(&mut text, "log in with", "`shoreguard login`");
    }
    if let Some(id) = status.metadata().get(REQUEST_ID).and_then(|id| id.to_str().ok()) {
        add_line(&mut text, "request id", id);
    }
    text
}

/// Returns the reason of a refusal, such as `REVIEW_STALE`. Empty if it has none.
pub(in crate::cli) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Adds the details, without those that the message of the status says itself.
fn add_details(text: &mut String, details: &ErrorDetails, message: &str) {
    let is_said = |part: &str| !part.is_empty() && message.contains(part);
    for violation in details.bad_request().iter().flat_map(|found| &found.field_violations) {
        if is_said(&violation.field) && is_said(&violation.description) {
            continue;
        }
        add_line(text, "field", &format!("`{}` {}", violation.field, violation.description));
    }
    for violation in details.precondition_failure().iter().flat_map(|found| &found.violations) {
        if is_said(&violation.description) {
            continue;
        }
        let what = [&violation.r#type, &violation.subject].map(String::as_str);
        let what =
            what.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ");
        add_line(text, "precondition", &format!("{what}: {}", violation.description));
    }
    if let Some(resource) = details.resource_info() {
        let named = format!("{} `{}`", resource.resource_type, resource.resource_name);
        add_line(text, "resource", &named);
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        add_line(text, "try again in", &format!("{:.1} s", delay.as_secs_f64()));
    }
}

fn status_message(status: &Status) -> &str {
    // The message of tonic's own timeout.
    if status.code() == Code::Cancelled && status.message() == "Timeout expired" {
        return "no answer in time; `--timeout` gives more";
    }
    if status.message().is_empty() { "the server gave no message" } else { status.message() }
}

fn add_line(text: &mut String, name: &str, value: &str) {
    write!(text, "\n  {}: {}", one_line(name), one_line(value)).expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_error_detail_is_printed_on_its_own_line() {
        let mut details = ErrorDetails::with_error_info("BUSY", "shoreguard", HashMap::new());
        details.add_bad_request_violation("name", "must not be empty");
        details.add_precondition_failure_violation("POLICY_PINNED", "edge", "pinned by ana");
        details.set_resource_info("gateway", "edge", "", "");
        details.set_retry_info(Some(Duration::from_millis(1500)));
        let mut status =
            Status::with_error_details(Code::ResourceExhausted, "the server\nis busy", details);
        status.metadata_mut().insert(REQUEST_ID, "r1".parse().unwrap());
        assert_eq!(
            format_status(&status),
            "RESOURCE_EXHAUSTED: the server is busy\n  \
             reason: BUSY (shoreguard)\n  \
             field: `name` must not be empty\n  \
             precondition: POLICY_PINNED edge: pinned by ana\n  \
             resource: gateway `edge`\n  \
             try again in: 1.5 s\n  \
             request id: r1"
        );
    }

    #[test]
    fn what_the_message_says_is_not_repeated() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("name", "must not be empty");
        details.add_precondition_failure_violation("POLICY_PINNED", "edge", "pinned by ana");
        let message = "name must not be empty, and it is pinned by ana";
        let status = Status::with_error_details(Code::InvalidArgument, message, details);
        assert_eq!(format_status(&status), format!("INVALID_ARGUMENT: {message}"));
    }

    #[test]
    fn a_caller_without_a_valid_credential_reads_how_to_log_in() {
        let status = Status::new(Code::Unauthenticated, "who are you");
        let hint = "\n  log in with: `shoreguard login`";
        assert_eq!(format_status(&status), format!("UNAUTHENTICATED: who are you{hint}"));
        let details = ErrorDetails::with_error_info(LOGIN_FAILED, "shoreguard", HashMap::new());
        let status = Status::with_error_details(Code::Unauthenticated, "wrong", details);
        assert!(!format_status(&status).contains("log in with"));
    }

    #[test]
    fn a_status_without_details_is_printed_on_one_line() {
        let status = Status::new(Code::Unimplemented, "");
        assert_eq!(format_status(&status), "UNIMPLEMENTED: the server gave no message");
    }
}
