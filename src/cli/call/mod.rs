//! `shoreguard call`: any method of a server as JSON, over the descriptors that this binary holds.
//!
//! Invariants
//! - the key goes to the server that was named and nowhere else, and not in plain over a network unless that is said;
//! - secrets of an answer are shown: whoever asks for a key wants to see it.

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

use super::{Failure, output};
use crate::secret::Secret;
use crate::upstream::generation::Generation;
use client::Client;
use methods::{Found, Methods};

pub(super) use refusal::refusal;

/// The largest request that is read from a file or standard input.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn generation() -> impl TypedValueParser<Value = Generation> {
    let numbers = PossibleValuesParser::new(Generation::ALL.map(Generation::as_str));
    numbers.try_map(|number| Generation::from_word(&number).ok_or("not a generation"))
}

/// What is called, where and as whom.
#[derive(Debug, Args)]
pub(super) struct CallArgs {
    /// `GetGateway`, `GatewayService/GetGateway` or `shoreguard.v1.GatewayService/GetGateway`; a method of a gateway as
    /// `openshell.v1.OpenShell/GetSandbox`.
    #[arg(required_unless_present = "list")]
    method: Option<String>,
    /// The request as JSON; `@FILE` reads a file, `-` standard input.
    #[arg(default_value = "{}")]
    json: String,
    /// The gateway that a proxied call goes to.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// The server.
    #[arg(
        long,
        value_name = "URL",
        env = "SHOREGUARD_ENDPOINT",
        default_value = "http://127.0.0.1:8443"
    )]
    endpoint: String,
    /// An API key or session token. Others on this host can read a flag: prefer the variable.
    #[arg(long, env = "SHOREGUARD_KEY", hide_env_values = true, value_parser = secret)]
    key: Option<Secret>,
    /// The CA of the server's certificate, PEM; without it the system's are trusted.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Sends the key without TLS to an address that is not loopback.
    #[arg(long)]
    allow_plaintext: bool,
    /// How long an answer may take; 30 where it is one message, no limit where it is a stream.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
    /// The wire generation of a gateway's method; without it the server is asked.
    #[arg(long, value_parser = generation())]
    generation: Option<Generation>,
    /// Lists every method.
    #[arg(long)]
    list: bool,
    /// Shows what a method takes and gives, and calls nothing.
    #[arg(long)]
    describe: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "clap's signature")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// Lists, describes or calls.
pub(super) async fn run(args: CallArgs) -> Result<(), Failure> {
    let methods = Methods::load();
    let Some(name) = args.method.as_deref().filter(|_| !args.list) else {
        return Ok(output::answer(&methods.list())?);
    };
    let found = methods.find(name).map_err(Failure::Usage)?;
    if args.describe {
        let method = found.newest(args.generation).map_err(Failure::Usage)?;
        return Ok(output::answer(shapes::describe(&method).trim_end())?);
    }
    let json = read(&args.json)?;
    // A wrong request is told before anything is connected, where that needs no answer of the server.
    let known = found.known(args.generation).map_err(Failure::Usage)?;
    let known =
        known.map(|method| Ok::<_, Failure>((request_of(&method, &json)?, method))).transpose()?;
    let mut client = Client::connect(&args).await?;
    let (request, method) = if let Some(known) = known {
        known
    } else {
        let method = ask(&found, &args, &mut client).await?;
        (request_of(&method, &json)?, method)
    };
    if !method.is_server_streaming() {
        let answer = client.unary(&method, request).await?;
        return Ok(output::answer(&json::pretty(&answer))?);
    }
    let mut answers = client.stream(&method, request).await?;
    while let Some(answer) = answers.message().await? {
        output::answer(&json::line(&answer))?;
    }
    Ok(())
}

fn read(argument: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if argument == "-" {
        std::io::stdin().lock().take(REQUEST_BYTES_MAX).read_to_string(&mut text)
    } else if let Some(path) = argument.strip_prefix('@') {
        std::fs::File::open(path)
            .and_then(|file| file.take(REQUEST_BYTES_MAX).read_to_string(&mut text))
    } else {
        return Ok(argument.to_owned());
    };
    read.map_err(|error| Failure::Usage(format!("`{argument}` cannot be read: {error}")))?;
    Ok(text)
}

fn request_of(method: &MethodDescriptor, json: &str) -> Result<DynamicMessage, Failure> {
    if method.is_client_streaming() {
        let path = method.full_name();
        let why = format!("`{path}` takes a stream of requests, which `call` does not send");
        return Err(Failure::Usage(why));
    }
    json::parse(&method.input(), json).map_err(Failure::Usage)
}

/// The method in the generation that the gateway speaks.
async fn ask(
    found: &Found<'_>,
    args: &CallArgs,
    client: &mut Client,
) -> Result<MethodDescriptor, Failure> {
    let generation = client.generation(args.gateway.as_deref()).await.unwrap_or_else(|why| {
        output::complain(&format!("{why}; taking generation 0.1, `--generation` names another"));
        Generation::V0_1
    });
    found.of(generation).cloned().map_err(Failure::Usage)
}
