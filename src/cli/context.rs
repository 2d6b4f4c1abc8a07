//! `shoreguard context`: the servers that this user has stored, and which of them is the current one.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::connect::{Context, Contexts, Credential, Place, Store, check_name};
use super::globals::OutputFormat;
use super::{CliError, grid, json, login, output};

/// What to do with contexts.
#[derive(Debug, Args)]
pub(super) struct ContextArgs {
    #[command(subcommand)]
    command: ContextCommand,
}

#[derive(Debug, Subcommand)]
enum ContextCommand {
    /// Lists the contexts.
    List(ListArgs),
    /// Shows one context.
    Show(ShowArgs),
    /// Makes a context the current one.
    Use(NameArgs),
    /// Adds a context, without a credential. It becomes the current one if no other is.
    Add(AddArgs),
    /// Removes a context, with its credential. Its session on the server is ended by `logout`.
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Name of the context. The default is the current one.
    name: Option<String>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Name of the context.
    name: String,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// Name of the context.
    name: String,
    /// Removes a stored API key, too.
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
struct AddArgs {
    /// Name of the context: letters, digits, `-`, `_` and `.`.
    name: String,
    /// URL of the server.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// The CA certificate of the server, PEM. By default the system's CAs are trusted.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The gateway of proxied calls that name none.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
}

/// Lists, shows or changes contexts.
pub(super) async fn run(args: ContextArgs) -> Result<(), CliError> {
    let store = Store::open();
    match args.command {
        ContextCommand::List(args) => list(&store, args.output),
        ContextCommand::Show(args) => show(&store, &args),
        ContextCommand::Use(args) => {
            change(&store, |contexts| {
                contexts.require(&args.name)?;
                contexts.set_current(&args.name);
                Ok(())
            })
            .await?;
            Ok(output::print_result(&format!("context {} is the current one", args.name))?)
        }
        ContextCommand::Add(args) => add(&store, args).await,
        ContextCommand::Remove(args) => remove(&store, &args).await,
    }
}

/// Changes the contexts under the lock.
async fn change(
    store: &Store,
    edit: impl FnOnce(&mut Contexts) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let lock = store.lock(None).await?;
    let mut contexts = lock.contexts()?;
    edit(&mut contexts)?;
    lock.write_contexts(&contexts)
}

async fn add(store: &Store, args: AddArgs) -> Result<(), CliError> {
    check_name(&args.name)?;
    let place = Place::parse(&args.endpoint)?;
    if args.ca.is_some() && !place.is_tls {
        return Err(CliError::Usage("`--ca` requires an endpoint with `https://`".to_owned()));
    }
    let context = Context {
        endpoint: args.endpoint.trim_end_matches('/').to_owned(),
        ca: args.ca.as_deref().map(login::absolute).transpose()?,
        gateway: args.gateway,
        name: args.name,
    };
    let lock = store.lock(None).await?;
    let mut contexts = lock.contexts()?;
    if contexts.get(&context.name)?.is_some() {
        let name = &context.name;
        let why = format!("context `{name}` exists: `shoreguard context remove {name}` removes it");
        return Err(CliError::Usage(why));
    }
    // A credential that was left behind is not given to the new server.
    lock.remove_credential(&context.name)?;
    if contexts.current_name().is_none() {
        contexts.set_current(&context.name);
    }
    contexts.put(&context);
    lock.write_contexts(&contexts)?;
    Ok(output::print_result(&format!("context {} was added", context.name))?)
}

async fn remove(store: &Store, args: &RemoveArgs) -> Result<(), CliError> {
    let name = args.name.as_str();
    let lock = store.lock(None).await?;
    let mut contexts = lock.contexts()?;
    // Also an entry that is not valid can be removed.
    if !contexts.names().contains(&name) {
        contexts.require(name)?;
    }
    let credential = contexts.get(name).and_then(|known| match known {
        Some(known) => store.credential(&known),
        None => Ok(None),
    });
    if matches!(credential, Ok(Some(Credential::Key(_)))) && !args.yes {
        let why = format!("context `{name}` holds an API key: `--yes` removes both");
        return Err(CliError::Usage(why));
    }
    lock.remove_credential(name)?;
    let was_current = contexts.current_name() == Some(name);
    contexts.remove(name);
    lock.write_contexts(&contexts)?;
    let now = if was_current { "; no context is current" } else { "" };
    Ok(output::print_result(&format!("context {name} was removed{now}"))?)
}

/// Titles of the columns of a table.
const HEADING: [&str; 4] = ["NAME", "ENDPOINT", "GATEWAY", "CREDENTIAL"];

/// A context, with what is displayed besides it.
struct Row {
    context: Context,
    is_current: bool,
    credential: &'static str,
}

impl Row {
    fn read(store: &Store, contexts: &Contexts, name: &str) -> Result<Self, CliError> {
        let context = contexts.require(name)?;
        let credential = match store.credential(&context)? {
            Some(Credential::Key(_)) => "key",
            Some(Credential::Session(_)) => "session",
            None => "none",
        };
        let is_current = contexts.current_name() == Some(name);
        Ok(Self { context, is_current, credential })
    }

    fn to_json(&self) -> Value {
        serde_json::json!({
            "name": self.context.name,
            "endpoint": self.context.endpoint,
            "ca": self.context.ca.as_ref().map(|ca| ca.display().to_string()),
            "gateway": self.context.gateway,
            "credential": self.credential,
            "current": self.is_current,
        })
    }

    /// Returns the cells below [`HEADING`]. The name of the current context is marked.
    fn cells(&self) -> Vec<String> {
        let mark = if self.is_current { "*" } else { "" };
        let gateway = self.context.gateway.clone().unwrap_or_default();
        let (name, endpoint) = (&self.context.name, &self.context.endpoint);
        vec![format!("{name}{mark}"), endpoint.clone(), gateway, self.credential.to_owned()]
    }
}

fn list(store: &Store, format: OutputFormat) -> Result<(), CliError> {
    let contexts = store.contexts()?;
    let rows = contexts.names().into_iter().map(|name| Row::read(store, &contexts, name));
    let rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
    let lines = |line: fn(&Row) -> String| rows.iter().map(line).collect::<Vec<_>>().join("\n");
    let text = match format {
        OutputFormat::Table | OutputFormat::Wide => to_table(&rows),
        OutputFormat::Json => format!("{:#}", all_to_json(&rows)),
        OutputFormat::Yaml => json::yaml_of(&all_to_json(&rows)),
        OutputFormat::Jsonl => lines(|row| row.to_json().to_string()),
        OutputFormat::Name => lines(|row| row.context.name.clone()),
    };
    if text.is_empty() {
        return Ok(());
    }
    Ok(output::print_result(text.trim_end())?)
}

fn show(store: &Store, args: &ShowArgs) -> Result<(), CliError> {
    let contexts = store.contexts()?;
    let name = args.name.as_deref().or(contexts.current_name()).ok_or_else(|| {
        CliError::Usage("no context is current: name one, or use `shoreguard login`".to_owned())
    })?;
    let row = Row::read(store, &contexts, name)?;
    let text = match args.output {
        OutputFormat::Table | OutputFormat::Wide => to_table(&[row]),
        OutputFormat::Json => format!("{:#}", row.to_json()),
        OutputFormat::Yaml => json::yaml_of(&row.to_json()),
        OutputFormat::Jsonl => row.to_json().to_string(),
        OutputFormat::Name => row.context.name,
    };
    Ok(output::print_result(text.trim_end())?)
}

fn all_to_json(rows: &[Row]) -> Value {
    serde_json::json!({ "contexts": rows.iter().map(Row::to_json).collect::<Vec<_>>() })
}

/// Returns aligned columns.
fn to_table(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    grid::table(&HEADING.map(str::to_owned), &cells, output::terminal_columns())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, gateway: Option<&str>, is_current: bool) -> Row {
        let context = Context {
            name: name.to_owned(),
            endpoint: "https://a.example".to_owned(),
            ca: None,
            gateway: gateway.map(str::to_owned),
        };
        Row { context, is_current, credential: "none" }
    }

    #[test]
    fn contexts_are_aligned_and_the_current_one_is_marked() {
        let rows = [row("one", Some("edge\nwest"), true), row("second", None, false)];
        assert_eq!(
            to_table(&rows),
            "NAME    ENDPOINT           GATEWAY    CREDENTIAL\n\
             one*    https://a.example  edge west  none\n\
             second  https://a.example  -          none"
        );
        assert_eq!(to_table(&[]), "NAME  ENDPOINT  GATEWAY  CREDENTIAL");
    }

    #[test]
    fn yaml_has_the_same_values_when_it_is_escaped_for_a_terminal() {
        let value = row("one", Some("a\u{200b}b"), true).to_json();
        let shown = output::escape_control(&json::yaml_of(&value));
        assert_eq!(serde_saphyr::from_str::<Value>(&shown).unwrap(), value, "{shown}");
    }
}
