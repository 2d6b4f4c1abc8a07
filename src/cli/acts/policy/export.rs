//! `shoreguard policy export`: the policy of a sandbox as a document.

use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use futures_util::future::BoxFuture;

use super::super::super::connect::{Client, interruptible};
use super::super::super::globals::{Globals, OutputFormat};
use super::super::super::{CliError, output, usage};
use super::super::answer;
use super::super::place::SandboxPlace;
use super::super::terminal::{Look, Page};
use super::to_exit;
use crate::pb::v1::ExportPolicyRequest;
use crate::pb::v1::policy_service_client::PolicyServiceClient;

/// Which policy.
#[derive(Debug, Args)]
struct ExportArgs {
    /// The sandbox.
    #[arg(value_name = "GATEWAY/[WORKSPACE/]SANDBOX")]
    place: SandboxPlace,
    /// Version of a revision. By default the newest one.
    #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
    revision: u32,
}

/// Returns the definition.
pub(in crate::cli) fn command() -> Command {
    ExportArgs::augment_args(Command::new("export"))
        .about("Prints the policy of a sandbox as a document: 0 done, 2 error")
}

/// Runs the command.
pub(in crate::cli) fn run(
    matches: ArgMatches,
    globals: Globals,
) -> BoxFuture<'static, Result<(), CliError>> {
    Box::pin(async move {
        let args = ExportArgs::from_arg_matches(&matches).map_err(|error| usage(&error))?;
        to_exit(interruptible(export(args, &globals)).await)
    })
}

async fn export(args: ExportArgs, globals: &Globals) -> Result<u8, CliError> {
    let client = Client::connect_renewed(&globals.connect).await?;
    let name = args.place.full_name();
    let SandboxPlace { gateway, workspace, sandbox } = args.place;
    let request = ExportPolicyRequest { gateway, workspace, sandbox, version: args.revision };
    let exported = client.repeat(&request, |request| {
        let mut policies = PolicyServiceClient::new(client.channel());
        async move { policies.export_policy(request).await }
    });
    let exported = exported.await?;
    check_plain(&exported.yaml, globals.output)?;
    let mut page = Page::new();
    page.block(Look::Plain, "", &exported.yaml);
    answer::print(globals.output, "ExportPolicyResponse", &exported, &name, &page)?;
    Ok(0)
}

/// Refuses to print a document that would be another one when it is escaped for a terminal.
fn check_plain(yaml: &str, format: OutputFormat) -> Result<(), CliError> {
    if !format.is_for_people() || output::escape_control(yaml) == yaml {
        return Ok(());
    }
    let why = "the document has invisible characters, which only `-o json` can show";
    Err(CliError::Io(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_cannot_be_shown_as_it_is_is_refused() {
        assert!(check_plain("host: a.example\n", OutputFormat::Table).is_ok());
        assert!(check_plain("host: a\u{200b}\n", OutputFormat::Table).is_err());
        assert!(check_plain("host: a\u{200b}\n", OutputFormat::Json).is_ok());
    }
}
