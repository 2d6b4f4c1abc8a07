//! `shoreguard whoami`: shows who the caller is for the server, and until when.

use clap::Args;
use prost_reflect::{DynamicMessage, MethodDescriptor};

use super::commands::text_at;
use super::connect::{Client, Environment};
use super::globals::{Globals, OutputFormat};
use super::{CliError, grid, json, output};
use crate::pb::descriptors;

const SERVICE: &str = "shoreguard.v1.AuthService";
const METHOD: &str = "GetCurrentIdentity";

/// The server.
#[derive(Debug, Args)]
pub(super) struct WhoamiArgs {
    #[command(flatten)]
    globals: Globals,
}

/// Shows the identity of the caller.
pub(super) async fn run(args: WhoamiArgs) -> Result<(), CliError> {
    let method = find_method()?;
    let mut client = Client::connect(&args.globals.connect, None).await?;
    let identity = client.unary(&method, DynamicMessage::new(method.input())).await?;
    let connect = &args.globals.connect;
    let by_variable = connect.server.context.is_none() && Environment::read()?.key.is_some();
    let is_stored = connect.key.is_none() && !by_variable;
    let text = match args.globals.output {
        OutputFormat::Table | OutputFormat::Wide => describe(&identity, &client, is_stored),
        OutputFormat::Json => json::to_pretty(&identity),
        OutputFormat::Yaml => json::to_yaml(&identity),
        OutputFormat::Jsonl => json::to_line(&identity),
        OutputFormat::Name => text_at(&identity, "actor"),
    };
    Ok(output::print_result(text.trim_end())?)
}

fn find_method() -> Result<MethodDescriptor, CliError> {
    let service = descriptors::OWN.pool().get_service_by_name(SERVICE);
    let method = service.and_then(|service| service.methods().find(|of| of.name() == METHOD));
    method.ok_or_else(|| CliError::Usage(format!("`{SERVICE}/{METHOD}` does not exist")))
}

/// Returns the facts for people. The context is named only if its credential was used.
fn describe(identity: &DynamicMessage, client: &Client, is_stored: bool) -> String {
    let context = client.context().filter(|_| is_stored);
    let context = context.map(|context| context.name.clone()).unwrap_or_default();
    let server = client.place().uri.to_string().trim_end_matches('/').to_owned();
    let facts = [
        ("actor", text_at(identity, "actor")),
        ("role", text_at(identity, "role")),
        ("gateway", text_at(identity, "bound_gateway")),
        ("expires", text_at(identity, "expire_time")),
        ("server", server),
        ("context", context),
    ];
    let known = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let known: Vec<_> = known.map(|(name, value)| (name.to_owned(), value)).collect();
    grid::pairs(&known, output::terminal_columns())
}
