//! `shoreguard call`: calls any method of a server with JSON, using the descriptors that are built into this binary.
//!
//! Invariants
//! - the key is sent only to the given server, and not without TLS over a network unless a flag allows it;
//! - secrets in a response are printed: a user who creates a key needs to see it.

mod methods;
mod shapes;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use prost_reflect::{DynamicMessage, Kind, MethodDescriptor, Value};

use super::connect::{Client, ConnectArgs};
use super::streams::{self, Messages};
use super::{CliError, input, json, output};
use crate::upstream::generation::Generation;
use methods::{FoundMethod, Methods};

fn generation() -> impl TypedValueParser<Value = Generation> {
    let numbers = PossibleValuesParser::new(Generation::ALL.map(Generation::as_str));
    numbers.try_map(|number| Generation::from_word(&number).ok_or("not a generation"))
}

/// Form of an answer. Its messages have no columns, since any method can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AnswerFormat {
    /// JSON with the field names of the proto; of a stream, one message a line.
    Json,
    /// One message a line.
    Jsonl,
    /// YAML; of a stream, one document a message.
    Yaml,
}

impl AnswerFormat {
    /// Returns the text of a message.
    fn show(self, message: &DynamicMessage, is_of_stream: bool) -> String {
        match (self, is_of_stream) {
            (Self::Json, false) => json::to_pretty(message),
            (Self::Json, true) | (Self::Jsonl, _) => json::to_line(message),
            (Self::Yaml, false) => json::to_yaml(message).trim_end().to_owned(),
            // JSON is YAML.
            (Self::Yaml, true) => format!("--- {}", json::to_line(message)),
        }
    }
}

/// Options that a command without a call would ignore.
const OF_A_CALL: [&str; 6] = ["context", "endpoint", "ca", "allow_plaintext", "timeout", "key"];

/// The method to call, the server and the credential.
#[derive(Debug, Args)]
pub(super) struct CallArgs {
    /// The method: `GetGateway`, `GatewayService/GetGateway` or `shoreguard.v1.GatewayService/GetGateway`; for a method
    /// of a gateway, `openshell.v1.OpenShell/GetSandbox`. Of a name that both have, Shoreguard's method is called, and
    /// with `--gateway` that of the gateway.
    #[arg(required_unless_present = "list")]
    method: Option<String>,
    /// The request as JSON; `@FILE` reads a file, `-` reads standard input. A method that takes a stream of requests
    /// reads one from each line.
    #[arg(default_value = "{}")]
    json: String,
    /// The gateway that a proxied call is sent to, or that the request of one of Shoreguard's own methods names.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    /// The wire generation of a gateway's method. By default it is read from the server.
    #[arg(long, value_parser = generation())]
    generation: Option<Generation>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = AnswerFormat::Json)]
    #[arg(conflicts_with_all = ["list", "describe"])]
    output: AnswerFormat,
    /// Lists all methods that this binary knows, or explains those whose path contains the given text.
    #[arg(long, conflicts_with_all = ["gateway", "generation"])]
    #[arg(conflicts_with_all = OF_A_CALL)]
    list: bool,
    /// Shows the request and response types of a method without calling it.
    #[arg(long, conflicts_with_all = OF_A_CALL)]
    describe: bool,
}

/// Lists, describes or calls methods.
pub(super) async fn run(args: CallArgs) -> Result<(), CliError> {
    let shows_comments = args.list || args.describe;
    let methods = if shows_comments { Methods::load() } else { Methods::load_without_comments() };
    let Some(name) = args.method.as_deref().filter(|_| !args.list) else {
        return list(&methods, args.method.as_deref());
    };
    let found = methods.find(name, args.gateway.is_some()).map_err(CliError::Usage)?;
    if args.describe {
        let method = found.newest(args.generation).map_err(CliError::Usage)?;
        return Ok(output::print_result(shapes::describe(&method).trim_end())?);
    }
    let json = read_request(&args.json).await?;
    // Reports an invalid request before connecting, unless the server has to be called for the generation.
    let known = found.if_known(args.generation).map_err(CliError::Usage)?;
    let is_own = found.is_own();
    let gateway = args.gateway.as_deref();
    let selected = gateway.filter(|_| is_own);
    let known = known
        .map(|method| Ok::<_, CliError>((parse_requests(&method, &json, selected)?, method)))
        .transpose()?;
    let mut client = Client::connect(&args.connect, gateway.filter(|_| !is_own)).await?;
    let (requests, method) = if let Some(known) = known {
        known
    } else {
        let method = resolve_method(&found, &args, &mut client).await?;
        (parse_requests(&method, &json, None)?, method)
    };
    send(&mut client, &method, requests, args.connect.timeout(), args.output).await
}

/// Prints all methods, or those whose path contains a text.
fn list(methods: &Methods, filter: Option<&str>) -> Result<(), CliError> {
    let found = methods.list(filter);
    if found.is_empty() {
        let filter = filter.unwrap_or_default();
        let why = format!("no method contains `{filter}`; `shoreguard call --list` names all");
        return Err(CliError::Exit(super::error::FAILED, why));
    }
    Ok(output::print_result(&found)?)
}

/// Sends the requests and prints the responses.
async fn send(
    client: &mut Client,
    method: &MethodDescriptor,
    mut requests: Vec<DynamicMessage>,
    timeout: Option<Duration>,
    format: AnswerFormat,
) -> Result<(), CliError> {
    let mut answers = if method.is_client_streaming() {
        let stream = client.exchange(method, tokio_stream::iter(requests)).await?;
        Messages::new(stream, timeout)
    } else {
        let request = requests.pop().unwrap_or_else(|| DynamicMessage::new(method.input()));
        if !method.is_server_streaming() {
            let answer = client.unary(method, request).await?;
            return Ok(output::print_result(&format.show(&answer, false))?);
        }
        streams::open(client, method, request, timeout).await?
    };
    let is_stream = method.is_server_streaming();
    while let Some(answer) = answers.next_to_print(client, is_stream).await? {
        let text = format.show(&answer, is_stream);
        if output::print_item(&text)?.is_break() {
            break;
        }
    }
    Ok(())
}

async fn read_request(argument: &str) -> Result<String, CliError> {
    let argument = argument.to_owned();
    if argument != "-" && !argument.starts_with('@') {
        return Ok(argument);
    }
    input::on_thread(move || input::read_text(&argument)).await?.map_err(CliError::Usage)
}

/// Parses the request, or for a stream of requests one on each line. A given gateway is set in the request.
fn parse_requests(
    method: &MethodDescriptor,
    json: &str,
    gateway: Option<&str>,
) -> Result<Vec<DynamicMessage>, CliError> {
    if !method.is_client_streaming() {
        let mut request = json::parse(&method.input(), json).map_err(CliError::Usage)?;
        if let Some(gateway) = gateway {
            select_gateway(method, &mut request, gateway)?;
        }
        return Ok(vec![request]);
    }
    let mut requests = Vec::new();
    for (at, line) in json.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut request = json::parse(&method.input(), line)
            .map_err(|why| CliError::Usage(format!("line {}: {why}", at + 1)))?;
        if let Some(gateway) = gateway.filter(|_| requests.is_empty()) {
            select_gateway(method, &mut request, gateway)?;
        }
        requests.push(request);
    }
    Ok(requests)
}

/// Sets the gateway of a request to one of Shoreguard's own methods.
fn select_gateway(
    method: &MethodDescriptor,
    request: &mut DynamicMessage,
    gateway: &str,
) -> Result<(), CliError> {
    let refused = |why: &str| {
        CliError::Usage(format!(
            "`--gateway {gateway}` does not fit `{}`: {why}",
            method.full_name()
        ))
    };
    let field = method.input().get_field_by_name("gateway");
    let Some(field) = field.filter(|field| field.kind() == Kind::String && !field.is_list()) else {
        return Err(refused("its request names no gateway"));
    };
    let given = request.get_field(&field).as_str().unwrap_or_default().to_owned();
    if !given.is_empty() && given != gateway {
        return Err(refused(&format!("the request names gateway `{given}`")));
    }
    request.set_field(&field, Value::String(gateway.to_owned()));
    Ok(())
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
