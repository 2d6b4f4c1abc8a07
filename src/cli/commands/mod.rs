//! Commands that call a server: a noun and a verb for each rpc, made out of one table and the descriptors.
//!
//! Invariants
//! - every own rpc has a command, in the table or by hand;
//! - a secret is never an argument itself.

mod cells;
mod fields;
mod flags;
mod labels;
mod lists;
mod places;
mod render;
mod request;
mod run;
mod table;
#[cfg(test)]
mod tests;
mod values;
mod watches;

use clap::{ArgMatches, Command, FromArgMatches as _};

pub(super) use cells::text_at;

use super::acts::{self, Act};
use super::globals::{Globals, OutputFormat};
use super::{CliError, usage};

/// A noun: what its commands are about.
struct Noun {
    name: &'static str,
    aliases: &'static [&'static str],
    about: &'static str,
}

const fn noun(name: &'static str, aliases: &'static [&'static str], about: &'static str) -> Noun {
    Noun { name, aliases, about }
}

/// All nouns, with their plural.
static NOUNS: [Noun; 18] = [
    noun("gateway", &["gateways", "gw"], "Gateways: registration, health, settings, discovery"),
    noun("sandbox", &["sandboxes", "sb"], "Sandboxes on gateways, and commands in them"),
    noun("operation", &["operations", "op"], "Work that continues after the command"),
    noun("event", &["events"], "What has changed"),
    noun("sbom", &["sboms"], "Software bills of materials of sandboxes"),
    noun("boot-hook", &["boot-hooks"], "Commands around the creation of a sandbox"),
    noun("policy", &["policies"], "Policies of sandboxes, their revisions and presets"),
    noun("pin", &["pins"], "Pinned policies, which cannot change"),
    noun("approval", &["approvals"], "Reviews of changes, and votes"),
    noun("workflow", &["workflows"], "Rules that say who approves changes"),
    noun("user", &["users"], "People, their invitations and sessions"),
    noun("group", &["groups"], "Groups of people"),
    noun("service-principal", &["service-principals", "sp"], "Programs, and their keys"),
    noun("role", &["roles", "access"], "Who may do what on which gateway"),
    noun("session", &["sessions"], "Your own sessions and account"),
    noun("audit", &["audits"], "The audit log"),
    noun("webhook", &["webhooks"], "Messages about events to other systems"),
    noun("server", &["servers"], "The server itself"),
];

/// Returns the definitions of the nouns. The arguments of a noun are defined when it is used, since that reads the
/// descriptors with their comments, which a server does not need.
pub(super) fn nouns() -> Vec<Command> {
    let command = |noun: &'static Noun| {
        Command::new(noun.name)
            .aliases(noun.aliases.iter().copied())
            .about(noun.about)
            .defer(define)
    };
    NOUNS.iter().map(command).collect()
}

/// Whether a command is a noun.
pub(super) fn is_noun(name: &str) -> bool {
    NOUNS.iter().any(|noun| noun.name == name)
}

/// Returns the commands of the table.
pub(super) fn table_commands() -> impl Iterator<Item = &'static str> {
    table::rows().map(|row| row.command)
}

/// Adds the verbs to a noun.
fn define(command: Command) -> Command {
    let noun = command.get_name().to_owned();
    let by_hand = acts::ALL.iter().filter(|act| act.noun == noun).map(define_act);
    let rows = table::rows()
        .filter(|row| row.noun() == noun && find_act(&noun, row.verb()).is_none())
        .map(flags::command);
    let mut verbs: Vec<Command> = by_hand.chain(rows).collect();
    verbs.sort_by(|one, other| one.get_name().cmp(other.get_name()));
    command.subcommand_required(true).arg_required_else_help(true).subcommands(verbs)
}

fn define_act(act: &Act) -> Command {
    Globals::add_to((act.command)().name(act.verb))
}

fn find_act(noun: &str, verb: &str) -> Option<&'static Act> {
    acts::ALL.iter().find(|act| act.noun == noun && act.verb == verb)
}

/// Whether the command is written by hand. Such a command handles an interruption itself.
pub(super) fn is_act(matches: &ArgMatches) -> bool {
    let found = matches.subcommand().and_then(|(noun, matches)| {
        let verb = matches.subcommand_name()?;
        find_act(noun, verb)
    });
    found.is_some()
}

/// Runs a verb of a noun.
pub(super) async fn run(noun: &str, matches: &ArgMatches) -> Result<(), CliError> {
    let Some((verb, matches)) = matches.subcommand() else {
        return Err(CliError::Usage(format!("`{noun}` needs a verb")));
    };
    let globals = Globals::from_arg_matches(matches).map_err(|error| usage(&error))?;
    if let Some(act) = find_act(noun, verb) {
        if !act.has_forms {
            refuse_forms(&format!("{noun} {verb}"), globals.output)?;
        }
        return (act.run)(matches.clone(), globals).await;
    }
    let Some(row) = table::find(noun, verb) else {
        return Err(CliError::Usage(format!("`{noun}` has no verb `{verb}`")));
    };
    run::run(row, matches, &globals).await
}

/// Refuses `-o` for a command whose answer has one form only. The default is the same as none.
fn refuse_forms(command: &str, format: OutputFormat) -> Result<(), CliError> {
    if format == OutputFormat::Table {
        return Ok(());
    }
    Err(CliError::Usage(format!("`{command}` has one form of output: leave out `-o`")))
}
