//! `shoreguard policy apply`: gives a sandbox the policy of a document.
//!
//! The change is computed first. Then it is applied to the policy that it was computed from, and shown: if another change
//! was faster, the command fails, and nothing is written.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use futures_util::future::BoxFuture;

use super::super::super::connect::{Client, interruptible};
use super::super::super::globals::{Globals, OutputFormat};
use super::super::super::{CliError, output, usage};
use super::super::difference::add_differences;
use super::super::operation_wait;
use super::super::place::SandboxPlace;
use super::super::progress::Progress;
use super::super::terminal::{Look, Page};
use super::super::{answer, review};
use super::{DRIFT, FAILED, find_place, read_document, to_exit};
use crate::app::new_id;
use crate::pb::v1::policy_service_client::PolicyServiceClient;
use crate::pb::v1::{
    ApplyPolicyRequest, ApplyPolicyResponse, Approval, ApprovalState, PolicyApplyMode,
    PolicyChange, PolicyChangeOutcome, PolicyVerdictKind,
};

/// Pause between two looks at a change whose operation has not begun yet.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// The document to apply, and how to apply it.
#[derive(Debug, Args)]
struct ApplyArgs {
    /// The sandbox. By default the one in the metadata of the document.
    #[arg(value_name = "GATEWAY/[WORKSPACE/]SANDBOX")]
    place: Option<SandboxPlace>,
    /// Policy document; `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Shows the change without making it: 1 if there is one.
    #[arg(long)]
    dry_run: bool,
    /// Waits until the sandbox has loaded the policy. A change under review is not waited for.
    #[arg(long)]
    wait: bool,
    /// Adds the document to the policy, and removes nothing. By default the document replaces the policy.
    #[arg(long)]
    merge: bool,
    /// Applies the document only if the policy still has this etag.
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
    /// Why the policy is changed.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
}

/// Returns the definition.
pub(in crate::cli) fn command() -> Command {
    ApplyArgs::augment_args(Command::new("apply")).about(
        "Gives a sandbox the policy of a document: 0 applied or the same, 1 under review or drift, 2 error",
    )
}

/// Runs the command.
pub(in crate::cli) fn run(
    matches: ArgMatches,
    globals: Globals,
) -> BoxFuture<'static, Result<(), CliError>> {
    Box::pin(async move {
        let args = ApplyArgs::from_arg_matches(&matches).map_err(|error| usage(&error))?;
        to_exit(interruptible(apply(args, &globals)).await)
    })
}

async fn apply(args: ApplyArgs, globals: &Globals) -> Result<u8, CliError> {
    let yaml = read_document(&args.file).await?;
    let place = find_place(args.place, &yaml)?;
    let (name, full_name) = (place.to_string(), place.full_name());
    let mode = if args.merge { PolicyApplyMode::Merge } else { PolicyApplyMode::Replace };
    let request = ApplyPolicyRequest {
        gateway: place.gateway,
        workspace: place.workspace,
        sandbox: place.sandbox,
        yaml,
        mode: mode.into(),
        etag: args.etag,
        validate_only: true,
        comment: args.comment,
        ..Default::default()
    };
    let mut client = Client::connect_renewed(&globals.connect).await?;
    let (computed, change) = send(&client, &request).await?;
    let verdict = change.verdict.clone().unwrap_or_default();
    let is_same = change.outcome() == PolicyChangeOutcome::UpToDate;
    let is_refused = !is_same && verdict.kind() == PolicyVerdictKind::Refuse;
    if is_same || is_refused || args.dry_run {
        let said = said(&name, &change, args.dry_run);
        report(globals, &full_name, &said, &computed, &change)?;
        if is_refused {
            let reason = verdict.reason().as_str_name();
            let reason = reason.strip_prefix("ERROR_REASON_").unwrap_or(reason);
            return Err(CliError::Exit(FAILED, format!("{} ({reason})", verdict.message)));
        }
        return Ok(if is_same { 0 } else { DRIFT });
    }
    let request = ApplyPolicyRequest {
        etag: change.etag,
        validate_only: false,
        request_id: new_id().to_string(),
        ..request
    };
    let (response, change) = send(&client, &request).await?;
    report(globals, &full_name, &said(&name, &change, false), &response, &change)?;
    match change.outcome() {
        PolicyChangeOutcome::Proposed => Ok(DRIFT),
        PolicyChangeOutcome::Applying if args.wait => {
            let waited = Box::pin(wait(&mut client, globals, &name, &change));
            let what = format!("approval {}", change.approval_id);
            operation_wait::in_time(globals.connect.timeout(), &what, waited).await
        }
        PolicyChangeOutcome::Applying => {
            if !globals.quiet && !change.operation.is_empty() {
                let id = &change.operation;
                output::print_error(&format!("`shoreguard operation wait {id}` waits for its end"));
            }
            Ok(0)
        }
        PolicyChangeOutcome::UpToDate
        | PolicyChangeOutcome::Validated
        | PolicyChangeOutcome::Unspecified => Ok(0),
    }
}

async fn send(
    client: &Client,
    request: &ApplyPolicyRequest,
) -> Result<(ApplyPolicyResponse, PolicyChange), CliError> {
    let sent = client.repeat(request, |request| {
        let mut policies = PolicyServiceClient::new(client.channel());
        async move { policies.apply_policy(request).await }
    });
    let answer = sent.await?;
    let change = answer.policy_change.clone();
    let change = change.ok_or_else(|| CliError::Io("the answer has no change".to_owned()))?;
    Ok((answer, change))
}

/// Prints a response: for people the differences, and what was done.
fn report(
    globals: &Globals,
    full_name: &str,
    said: &str,
    answer: &ApplyPolicyResponse,
    change: &PolicyChange,
) -> Result<(), CliError> {
    let mut page = Page::new();
    add_differences(&mut page, &change.policy_differences, change.omitted);
    page.line(Look::Plain, said);
    answer::print(globals.output, "ApplyPolicyResponse", answer, full_name, &page)
}

/// Says what was done, or in a dry run what would be.
fn said(name: &str, change: &PolicyChange, is_dry_run: bool) -> String {
    let id = change.approval_id;
    match change.outcome() {
        PolicyChangeOutcome::UpToDate => format!("{name} has the policy of the document"),
        PolicyChangeOutcome::Proposed => format!("{name}: under review as approval {id}"),
        PolicyChangeOutcome::Applying if change.operation.is_empty() => {
            format!("{name}: will be written as approval {id}")
        }
        PolicyChangeOutcome::Applying => {
            format!("{name}: is being written by operation {}", change.operation)
        }
        PolicyChangeOutcome::Validated | PolicyChangeOutcome::Unspecified => {
            validated(name, change, is_dry_run)
        }
    }
}

/// Says what would be done. A refusal also ends a command without `--dry-run`.
fn validated(name: &str, change: &PolicyChange, is_dry_run: bool) -> String {
    let verdict = change.verdict.clone().unwrap_or_default();
    match verdict.kind() {
        PolicyVerdictKind::Propose => format!("{name}: would be reviewed"),
        PolicyVerdictKind::Refuse if is_dry_run => format!("{name}: would be refused"),
        PolicyVerdictKind::Refuse => format!("{name}: is refused"),
        PolicyVerdictKind::Apply | PolicyVerdictKind::Unspecified => {
            format!("{name}: would be written")
        }
    }
}

/// Waits until the change is in force, and says so to people.
async fn wait(
    client: &mut Client,
    globals: &Globals,
    name: &str,
    change: &PolicyChange,
) -> Result<u8, CliError> {
    let is_quiet = globals.quiet || globals.output != OutputFormat::Table;
    let bar = Progress::percent(is_quiet);
    let (mut id, mut operation) = (change.approval_id, change.operation.clone());
    // A failed operation is followed by another one while the change can still be written: the approval decides.
    loop {
        let mut failure = None;
        if !operation.is_empty() {
            let ended = operation_wait::follow(client, &operation, &bar).await?;
            failure = operation_wait::failure(&ended);
        }
        // A wait can be longer than a session token is valid.
        client.renew_credential().await?;
        let detail = review::get(client, id).await?;
        let approval =
            detail.approval.ok_or_else(|| CliError::Io("the answer has no approval".to_owned()))?;
        if approval.state() == ApprovalState::Superseded && detail.successor_approval_id != 0 {
            // Another change came first, and this one was computed again on its policy.
            (id, operation) = (detail.successor_approval_id, String::new());
            continue;
        }
        if id != change.approval_id && approval.state() == ApprovalState::Open {
            bar.clear();
            output::print_error(&replaced(name, change.approval_id, id));
            return Ok(DRIFT);
        }
        if let Some(ended) = end_of(&approval) {
            bar.clear();
            if ended.is_ok() && globals.output.is_for_people() {
                let version = approval.written_version;
                let mut page = Page::new();
                page.line(Look::Plain, &format!("{name}: is in force, version {version}"));
                page.print()?;
            }
            return ended;
        }
        if let Some(failure) = failure.filter(|_| approval.state() == ApprovalState::Written) {
            bar.clear();
            return Err(CliError::Exit(
                FAILED,
                not_loaded(name, approval.written_version, &failure),
            ));
        }
        if approval.operation == operation {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        operation = approval.operation;
    }
}

/// Says that the change is computed on another policy now, and waits for votes.
fn replaced(name: &str, before: i64, id: i64) -> String {
    format!(
        "{name}: the policy has changed at the same time, so approval {id}, which is under review, replaces {before}"
    )
}

/// Says that a policy is written and not in force.
fn not_loaded(name: &str, version: i64, failure: &str) -> String {
    format!(
        "{name}: version {version} is written, but the sandbox has not loaded it, it may be stopped: {failure}"
    )
}

/// Returns how a change has ended. `None` if it has not.
fn end_of(approval: &Approval) -> Option<Result<u8, CliError>> {
    match approval.state() {
        ApprovalState::Applied => Some(Ok(0)),
        ApprovalState::Unspecified
        | ApprovalState::Open
        | ApprovalState::Approved
        | ApprovalState::Sending
        | ApprovalState::Written => None,
        ApprovalState::Rejected
        | ApprovalState::Withdrawn
        | ApprovalState::Expired
        | ApprovalState::Superseded
        | ApprovalState::Failed
        | ApprovalState::RolledBack => {
            let state = answer::word(approval.state().as_str_name(), "APPROVAL_STATE_");
            let mut why = format!("approval {} {state}: {}", approval.id, approval.close_reason);
            if approval.state() == ApprovalState::Superseded {
                why.push_str("; export the policy again, and repeat the change");
            }
            Some(Err(CliError::Exit(FAILED, why)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_ended_when_it_is_in_force_or_cannot_be() {
        let of =
            |state: ApprovalState| end_of(&Approval { state: state.into(), ..Default::default() });
        assert!(matches!(of(ApprovalState::Applied), Some(Ok(0))));
        assert!(of(ApprovalState::Written).is_none() && of(ApprovalState::Sending).is_none());
        assert!(matches!(of(ApprovalState::RolledBack), Some(Err(CliError::Exit(FAILED, _)))));
        let outdated = of(ApprovalState::Superseded).unwrap().unwrap_err();
        assert!(outdated.to_string().contains("export the policy again"), "{outdated}");
    }
}
