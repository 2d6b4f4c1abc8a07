//! `shoreguard policy diff`: how the policy of a sandbox differs from a document.

use std::path::PathBuf;

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

/// What is compared.
#[derive(Debug, Args)]
struct DiffArgs {
    /// The sandbox. By default the one in the metadata of the document.
    #[arg(value_name = "GATEWAY/[WORKSPACE/]SANDBOX")]
    place: Option<SandboxPlace>,
    /// Policy document; `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Version of the revision that is compared. By default the newest one.
    #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
    revision: u32,
}

/// Returns the definition.
pub(in crate::cli) fn command() -> Command {
    DiffArgs::augment_args(Command::new("diff"))
        .about("Compares the policy of a sandbox with a document: 0 the same, 1 drift, 2 error")
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

async fn diff(args: DiffArgs, globals: &Globals) -> Result<u8, CliError> {
    let yaml = read_document(&args.file)?;
    let place = find_place(args.place, &yaml)?;
    let client = Client::connect(&globals.connect, None).await?;
    let (name, full_name) = (place.to_string(), place.full_name());
    let request = DiffPoliciesRequest {
        gateway: place.gateway,
        workspace: place.workspace,
        sandbox: place.sandbox,
        from: Some(PolicyOperand { policy: Some(Operand::Version(args.revision)) }),
        to: Some(PolicyOperand { policy: Some(Operand::Yaml(yaml)) }),
    };
    let compared = client.repeat(&request, |request| {
        let mut policies = PolicyServiceClient::new(client.channel());
        async move { policies.diff_policies(request).await }
    });
    let compared = compared.await?;
    let mut page = Page::new();
    if compared.equivalent {
        page.line(Look::Plain, &format!("{name} has the policy of the document"));
    } else {
        add_differences(&mut page, &compared.policy_differences, compared.omitted);
    }
    answer::print(globals.output, "DiffPoliciesResponse", &compared, &full_name, &page)?;
    Ok(if compared.equivalent { 0 } else { DRIFT })
}
