//! `shoreguard help`: the groups of commands, and topics that several commands share.

use std::fmt::Write as _;

use super::{CliError, definition, output};

/// Groups of commands for the overview. Every command that is not hidden is in one.
const GROUPS: &[(&str, &[&str])] = &[
    ("Look and act", &["gateway", "sandbox", "operation", "event", "sbom", "boot-hook"]),
    ("Decide", &["policy", "pin", "approval", "workflow"]),
    ("Access", &["user", "group", "service-principal", "role", "session"]),
    ("Evidence", &["audit", "webhook"]),
    ("Connect", &["login", "logout", "whoami", "context", "server"]),
    (
        "Run a server",
        &[
            "serve",
            "dev",
            "config",
            "check-config",
            "migrate",
            "admin",
            "doctor",
            "backup",
            "restore",
            "import",
        ],
    ),
    ("Tools", &["call", "completion", "help"]),
];

/// Width of the names of groups.
const GROUP_COLUMNS: usize = 20;

/// Topics, by name.
const TOPICS: &[(&str, &str)] = &[
    ("output", OUTPUT),
    ("exit-codes", EXIT_CODES),
    ("environment", ENVIRONMENT),
    ("selectors", SELECTORS),
];

const OUTPUT: &str = "\
-o table   columns for people; they may change between versions
-o wide    all columns, and empty values too
-o json    the response as JSON: names as in the proto, empty lists and false included,
           whole numbers as numbers
-o jsonl   one item a line
-o yaml    the same as json, as YAML
-o name    names only, one a line; a command that names nothing refuses it, and so does
           a command whose answer has a secret that is shown once

Only answers are on standard output. Watches always print one line for each message.
Lists read further pages by themselves, up to `--limit` (1000), and say on standard error
whether more exist. A gateway that did not answer is named on standard error, and the
command exits with 6. Only on a terminal are cells cut to its width.
Control characters in values are printed as \\uXXXX.";

const EXIT_CODES: &str = "  0  done
  1  refused or failed; for comparisons: a difference was found;
     for `gateway test`: it is not usable
  2  the command or the configuration is wrong
  4  log in first: no credential was given, or it is no longer valid
  5  try again: the server is away or busy, or the time has passed
  6  the answer is incomplete: a gateway did not answer
125  `sandbox exec` could not start the command; otherwise it exits as the command did
130  interrupted";

const ENVIRONMENT: &str = "\
SHOREGUARD_ENDPOINT  URL of the server; http://127.0.0.1:8443 if no context is stored
SHOREGUARD_KEY       an API key or session token; an empty value is the same as none
XDG_CONFIG_HOME      folder of stored contexts: `shoreguard` in it; ~/.config by default
SHOREGUARD_CONFIG    path of the server's configuration
SHOREGUARD_<SECTION>_<KEY>  a key of the server's configuration
NO_COLOR, TERM=dumb  help without colors; answers never have any";

const SELECTORS: &str = "\
A selector is a list of requirements, separated by commas. All must be met.

  env=prod, env!=prod        the label has the value, or has not
  env in (prod,test)         the label has one of the values
  env notin (prod,test)      the label has none of the values
  env, !env                  the label exists, or does not

Example: `shoreguard gateway list -l env=prod,!retired`";

/// What to explain.
#[derive(Debug, clap::Args)]
pub(super) struct HelpArgs {
    /// A command, or a topic: output, exit-codes, environment, selectors.
    words: Vec<String>,
}

/// Adds the overview of commands to the definition.
pub(super) fn with_groups(command: clap::Command) -> clap::Command {
    let mut overview = String::new();
    for (title, names) in GROUPS {
        let there = |name: &&&str| command.find_subcommand(name).is_some();
        let names: Vec<&str> = names.iter().filter(there).copied().collect();
        let _ = writeln!(overview, "{title:<GROUP_COLUMNS$}  {}", names.join("  "));
    }
    let topics: Vec<&str> = TOPICS.iter().map(|(name, _)| *name).collect();
    let topics = format!("`shoreguard help <TOPIC>` explains: {}", topics.join(", "));
    command
        .before_help(overview)
        .after_help(topics)
        .help_template(
            "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}{after-help}",
        )
}

/// Prints a topic, or the help of a command.
pub(super) fn run(args: &HelpArgs) -> Result<(), CliError> {
    if let [word] = args.words.as_slice()
        && let Some((_, text)) = TOPICS.iter().find(|(name, _)| name == word)
    {
        return Ok(output::print_result(text)?);
    }
    let program = std::iter::once("shoreguard");
    let words = program.chain(args.words.iter().map(String::as_str)).chain(["--help"]);
    match definition().try_get_matches_from(words) {
        Err(shown) if !shown.use_stderr() => {
            Ok(output::print_result(shown.render().to_string().trim_end())?)
        }
        Err(wrong) => Err(CliError::Usage(wrong.render().to_string().trim_end().to_owned())),
        // `--help` is always an error of clap.
        Ok(_) => Err(CliError::Usage(format!("no help for `{}`", args.words.join(" ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_command_is_in_one_group() {
        let command = definition();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        for command in shown {
            let name = command.get_name();
            let found = GROUPS.iter().filter(|(_, names)| names.contains(&name)).count();
            assert_eq!(found, 1, "`{name}`");
        }
    }

    #[tokio::test]
    async fn topics_and_commands_are_explained() {
        let explained = async |words: &[&str]| {
            let words = ["shoreguard", "help"].iter().chain(words).map(|word| (*word).to_owned());
            super::super::run_captured(words.collect(), Vec::new()).await
        };
        for (topic, text) in TOPICS {
            let done = explained(&[*topic]).await;
            assert_eq!((done.code, done.stdout.trim_end()), (0, *text));
        }
        let done = explained(&["gateway", "list"]).await;
        assert!(done.code == 0 && done.stdout.contains("--limit"), "{done:?}");
        let done = explained(&[]).await;
        assert!(done.stdout.contains("Look and act          gateway  sandbox"), "{done:?}");
        assert_eq!(explained(&["bogus"]).await.code, 2);
    }
}
