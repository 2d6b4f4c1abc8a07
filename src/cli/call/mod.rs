//! `shoreguard call`: calls any method of a server with JSON, using the descriptors that are built into this binary.
//!
//! Invariants
//! - the key is sent only to the given server, and not without TLS over a network unless a flag allows it;
//! - secrets in a response are printed: a user who creates a key needs to see it.

mod client;
mod codec;
mod json;
mod methods;
mod refusal;
mod shapes;
#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use prost_reflect::{DynamicMessage, MethodDescriptor};

use super::{CliError, output};
use crate::secret::Secret;
use crate::upstream::generation::Generation;
use client::Client;
use methods::{FoundMethod, Methods};

pub(super) use refusal::format_status;

/// Maximum size of a request from a file or standard input.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn generation() -> impl TypedValueParser<Value = Generation> {
    let numbers = PossibleValuesParser::new(Generation::ALL.map(Generation::as_str));
    numbers.try_map(|number| Generation::from_word(&number).ok_or("not a generation"))
}

/// The method to call, the server and the credential.
#[derive(Debug, Args)]
pub(super) struct CallArgs {
    /// The method: `GetGateway`, `GatewayService/GetGateway` or `shoreguard.v1.GatewayService/GetGateway`; for a method
    /// of a gateway, `openshell.v1.OpenShell/GetSandbox`. Of a name that both have, Shoreguard's method is called, and
    /// with `--gateway` that of the gateway.
    #[arg(required_unless_present = "list")]
    method: Option<String>,
    /// The request as JSON; `@FILE` reads a file, `-` reads standard input.
    #[arg(default_value = "{}")]
    json: String,
    /// The gateway that a proxied call is sent to.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// URL of the server.
    #[arg(
        long,
        value_name = "URL",
        env = "SHOREGUARD_ENDPOINT",
        default_value = "http://127.0.0.1:8443"
    )]
    endpoint: String,
    /// An API key or session token. Other users of this host can see command line flags: prefer the environment
    /// variable.
    #[arg(long, env = "SHOREGUARD_KEY", hide_env_values = true, value_parser = parse_secret)]
    key: Option<Secret>,
    /// The CA certificate of the server, PEM; by default the system's CAs are trusted.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Allows sending the key without TLS to an address that is not loopback.
    #[arg(long)]
    allow_plaintext: bool,
    /// Timeout of a response, in seconds. The default is 30 for a single response and no limit for a stream.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
    /// The wire generation of a gateway's method. By default it is read from the server.
    #[arg(long, value_parser = generation())]
    generation: Option<Generation>,
    /// Lists all methods.
    #[arg(long)]
    list: bool,
    /// Shows the request and response types of a method without calling it.
    #[arg(long)]
    describe: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "clap's signature")]
fn parse_secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// Lists, describes or calls methods.
pub(super) async fn run(args: CallArgs) -> Result<(), CliError> {
    let methods = Methods::load();
    let Some(name) = args.method.as_deref().filter(|_| !args.list) else {
        return Ok(output::print_result(&methods.list())?);
    };
    let found = methods.find(name, args.gateway.is_some()).map_err(CliError::Usage)?;
    if args.describe {
        let method = found.newest(args.generation).map_err(CliError::Usage)?;
        return Ok(output::print_result(shapes::describe(&method).trim_end())?);
    }
    let json = read_request(&args.json)?;
    // Reports an invalid request before connecting, unless the server has to be called for the generation.
    let known = found.if_known(args.generation).map_err(CliError::Usage)?;
    let known = known
        .map(|method| Ok::<_, CliError>((parse_request(&method, &json)?, method)))
        .transpose()?;
    let mut client = Client::connect(&args).await?;
    let (request, method) = if let Some(known) = known {
        known
    } else {
        let method = resolve_method(&found, &args, &mut client).await?;
        (parse_request(&method, &json)?, method)
    };
    if !method.is_server_streaming() {
        let answer = client.unary(&method, request).await?;
        return Ok(output::print_result(&json::to_pretty(&answer))?);
    }
    let mut answers = client.stream(&method, request).await?;
    while let Some(answer) = answers.message().await? {
        output::print_result(&json::to_line(&answer))?;
    }
    Ok(())
}

fn read_request(argument: &str) -> Result<String, CliError> {
    let mut text = String::new();
    let read = if argument == "-" {
        std::io::stdin().lock().take(REQUEST_BYTES_MAX).read_to_string(&mut text)
    } else if let Some(path) = argument.strip_prefix('@') {
        std::fs::File::open(path)
            .and_then(|file| file.take(REQUEST_BYTES_MAX).read_to_string(&mut text))
    } else {
        return Ok(argument.to_owned());
    };
    read.map_err(|error| CliError::Usage(format!("`{argument}` cannot be read: {error}")))?;
    Ok(text)
}

fn parse_request(method: &MethodDescriptor, json: &str) -> Result<DynamicMessage, CliError> {
    if method.is_client_streaming() {
        let path = method.full_name();
        let why = format!("`{path}` takes a stream of requests, which `call` does not send");
        return Err(CliError::Usage(why));
    }
    json::parse(&method.input(), json).map_err(CliError::Usage)
}

/// Returns the method in the generation of the gateway, which is read from the server.
async fn resolve_method(
    found: &FoundMethod<'_>,
    args: &CallArgs,
    client: &mut Client,
) -> Result<MethodDescriptor, CliError> {
    let generation = client.generation(args.gateway.as_deref()).await.unwrap_or_else(|why| {
        output::print_error(&format!(
            "{why}; using generation 0.1: set `--generation` to use another"
        ));
        Generation::V0_1
    });
    found.in_generation(generation).cloned().map_err(CliError::Usage)
}
