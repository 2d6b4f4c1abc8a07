//! `shoreguard policy diff`: how the policy of a sandbox differs from a document, or from what an approval leads to.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use futures_util::future::BoxFuture;

use super::super::super::connect::{Client, interruptible};
use super::super::super::globals::Globals;
use super::super::super::{CliError, usage};
use super::super::answer;
use super::super::difference::add_differences;
use super::super::place::SandboxPlace;
use super::super::terminal::{Look, Page};
use super::{DRIFT, find_place, read_document, to_exit};
use crate::pb::v1::policy_operand::Policy as Operand;
use crate::pb::v1::policy_service_client::PolicyServiceClient;
use crate::pb::v1::{DiffPoliciesRequest, PolicyOperand};

/// The policies to compare.
#[derive(Debug, Args)]
struct DiffArgs {
    /// The sandbox. By default the one in the metadata of the document.
    #[arg(value_name = "GATEWAY/[WORKSPACE/]SANDBOX")]
    place: Option<SandboxPlace>,
    /// Policy document; `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    #[arg(required_unless_present = "approval", conflicts_with = "approval")]
    file: Option<PathBuf>,
    /// Instead of a document: the policy that this approval of the sandbox leads to.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    approval: Option<i64>,
    /// Version of the revision that is compared. By default the newest one.
    #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
    revision: u32,
}

/// Returns the definition.
pub(in crate::cli) fn command() -> Command {
    DiffArgs::augment_args(Command::new("diff"))
        .about("Compares a policy with a document or an approval: 0 the same, 1 drift, 2 error")
}

/// Runs the command.
pub(in crate::cli) fn run(
    matches: ArgMatches,
    globals: Globals,
) -> BoxFuture<'static, Result<(), CliError>> {
    Box::pin(async move {
        let args = DiffArgs::from_arg_matches(&matches).map_err(|error| usage(&error))?;
        to_exit(interruptible(diff(args, &globals)).await)
    })
}

/// Returns the sandbox, what its policy is compared with, and the name of that for people.
async fn compared_with(
    place: Option<SandboxPlace>,
    file: Option<&Path>,
    approval: Option<i64>,
) -> Result<(SandboxPlace, Operand, String), CliError> {
    if let Some(file) = file {
        let yaml = read_document(file).await?;
        let place = find_place(place, &yaml)?;
        return Ok((place, Operand::Yaml(yaml), "the document".to_owned()));
    }
    let (Some(place), Some(id)) = (place, approval) else {
        let why = "name the sandbox that the approval is about";
        return Err(CliError::Usage(why.to_owned()));
    };
    Ok((place, Operand::ApprovalId(id), format!("approval {id}")))
}

async fn diff(args: DiffArgs, globals: &Globals) -> Result<u8, CliError> {
    let compared = compared_with(args.place, args.file.as_deref(), args.approval);
    let (place, with, other) = compared.await?;
    let client = Client::connect_renewed(&globals.connect).await?;
    let (name, full_name) = (place.to_string(), place.full_name());
    let request = DiffPoliciesRequest {
        gateway: place.gateway,
        workspace: place.workspace,
        sandbox: place.sandbox,
        from: Some(PolicyOperand { policy: Some(Operand::Version(args.revision)) }),
        to: Some(PolicyOperand { policy: Some(with) }),
    };
    let compared = client.repeat(&request, |request| {
        let mut policies = PolicyServiceClient::new(client.channel());
        async move { policies.diff_policies(request).await }
    });
    let compared = compared.await?;
    let mut page = Page::new();
    if compared.equivalent {
        page.line(Look::Plain, &format!("{name} has the policy of {other}"));
    } else {
        add_differences(&mut page, &compared.policy_differences, compared.omitted);
    }
    answer::print(globals.output, "DiffPoliciesResponse", &compared, &full_name, &page)?;
    Ok(if compared.equivalent { 0 } else { DRIFT })
}
