//! `shoreguard whoami`: shows who the caller is for the server, and until when.

use std::fmt::Write as _;

use clap::Args;
use prost_reflect::{DynamicMessage, Kind, MethodDescriptor, ReflectMessage as _};

use super::connect::{Client, Environment};
use super::globals::{Globals, OutputFormat};
use super::{CliError, json, output};
use crate::pb::descriptors;

const SERVICE: &str = "shoreguard.v1.AuthService";
const METHOD: &str = "GetCurrentIdentity";
/// Width of the names of facts.
const NAME_COLUMNS: usize = 8;

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
        OutputFormat::Name => text_of(&identity, "actor"),
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
    let mut text = String::new();
    for (name, value) in [
        ("actor", text_of(identity, "actor")),
        ("role", enum_of(identity, "role")),
        ("gateway", text_of(identity, "bound_gateway")),
        ("expires", time_of(identity, "expire_time")),
        ("server", server),
        ("context", context),
    ] {
        if !value.is_empty() {
            writeln!(text, "{name:<NAME_COLUMNS$}  {value}").expect("a string takes all");
        }
    }
    text
}

fn text_of(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Returns a value of an enum as a word: `ROLE_ADMIN` is `admin`.
fn enum_of(message: &DynamicMessage, field: &str) -> String {
    let number = message.get_field_by_name(field).and_then(|value| value.as_enum_number());
    let kind = message.descriptor().get_field_by_name(field).map(|field| field.kind());
    let (Some(number), Some(Kind::Enum(kind))) = (number, kind) else {
        return String::new();
    };
    let name = kind.get_value(number).map(|value| value.name().to_owned()).unwrap_or_default();
    name.trim_start_matches("ROLE_").to_ascii_lowercase()
}

/// Returns a time as JSON shows it, or an empty text if it is not set.
fn time_of(message: &DynamicMessage, field: &str) -> String {
    if !message.has_field_by_name(field) {
        return String::new();
    }
    let time = message.get_field_by_name(field);
    let time = time.as_ref().and_then(|time| time.as_message()).map(json::to_line);
    time.unwrap_or_default().trim_matches('"').to_owned()
}
