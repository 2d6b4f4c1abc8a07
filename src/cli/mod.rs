//! The command line: commands that run a server or work on its files, one file each, and commands that call a server,
//! which a table defines (`commands/`) or which are written by hand (`acts/`).
//!
//! Invariants
//! - standard output holds results only; errors are written to standard error;
//! - exit codes are those of `error.rs`;
//! - text from a server is escaped before it is written to the terminal.

mod acts;
mod admin;
mod backup;
mod call;
mod check_config;
mod commands;
mod comments;
mod connect;
mod context;
mod data_dir;
mod dev;
mod dev_key;
mod error;
mod globals;
mod grid;
mod help;
mod hook_exec;
mod input;
mod json;
mod login;
mod logout;
mod migrate;
mod output;
mod preflight;
mod restore;
mod scripts;
mod serve;
mod streams;
mod whoami;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use futures_util::future::BoxFuture;

use crate::config::{Config, Faults, Sources};
use crate::telemetry;
use connect::interruptible;
pub(crate) use error::CliError;

/// How long a finished command waits for blocking work that it no longer needs.
const RUNTIME_END_TIME: Duration = Duration::from_secs(2);

/// The control plane for fleets of OpenShell gateways.
#[derive(Debug, Parser)]
#[command(name = "shoreguard", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server until SIGTERM or SIGINT.
    Serve(ConfigArgs),
    /// Runs a server on loopback with simulated gateways, a database in a folder, and printed keys.
    Dev(dev::DevArgs),
    /// Creates users and keys, sets a password, or removes rules, directly in the database.
    Admin(admin::AdminArgs),
    /// Updates the database schema.
    Migrate(ConfigArgs),
    /// Copies an SQLite database into a new folder, even while the server runs.
    Backup(backup::BackupArgs),
    /// Puts the database of a backup into an empty place.
    Restore(restore::RestoreArgs),
    /// Checks the configuration: lists all errors, or prints it with `***` in place of secrets.
    CheckConfig(ConfigArgs),
    /// Calls a method of a server or of a gateway behind it.
    Call(call::CallArgs),
    /// Logs in to a server, with a password, an API key, at an OIDC provider or by a code.
    Login(login::LoginArgs),
    /// Ends the session on the server, and removes the stored credential.
    Logout(logout::LogoutArgs),
    /// Shows who you are for the server.
    Whoami(whoami::WhoamiArgs),
    /// Lists and changes the stored servers.
    Context(context::ContextArgs),
    /// Prints a script that completes commands in a shell.
    Completion(scripts::CompletionArgs),
    /// Explains a command or a topic.
    Help(help::HelpArgs),
    /// Writes a manual page for each command.
    #[command(hide = true)]
    Man(scripts::ManArgs),
    /// Sets process limits and executes a boot hook. For internal use by the server.
    #[command(hide = true)]
    HookExec(hook_exec::HookExecArgs),
}

/// Sources of the server's configuration, in addition to `SHOREGUARD_<SECTION>_<KEY>` variables.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Path of the TOML file.
    #[arg(long, value_name = "FILE", env = "SHOREGUARD_CONFIG")]
    config: Option<PathBuf>,
    /// Sets one key, overriding file and environment: `--set server.listen=127.0.0.1:9000`.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = key_and_value)]
    flags: Vec<(String, String)>,
}

impl ConfigArgs {
    /// Reads and checks the configuration.
    pub(crate) fn load(&self) -> Result<Config, Faults> {
        Config::load(&Sources { file: self.config.as_deref(), flags: &self.flags })
    }
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("must be `section.key=value`")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// Returns the definition of all commands.
fn definition() -> clap::Command {
    help::with_groups(Cli::command().subcommands(commands::nouns()))
}

/// Output of a captured command, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The exit code.
    pub code: u8,
    /// Standard output, with replacement characters for what is not UTF-8.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs the command in `arguments`, of which the first is the name of the program.
#[must_use]
pub fn run<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> ExitCode {
    let matches = match definition().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(parse_exit_code(&error));
        }
    };
    let code = report(start(&matches));
    telemetry::flush_log();
    ExitCode::from(code)
}

/// Runs a command that calls a server inside this process. It reads `input` as its standard input, and what it writes
/// is returned. Commands that run a server or change its files are refused.
#[must_use]
pub fn run_captured(arguments: Vec<String>, input: Vec<u8>) -> BoxFuture<'static, Captured> {
    Box::pin(async move {
        let capture = output::Capture::new(input);
        let code = capture
            .run(Box::pin(async {
                match definition().try_get_matches_from(arguments) {
                    Ok(matches) => report(run_client_command(&matches).await),
                    Err(error) => report_parse_error(&error),
                }
            }))
            .await;
        let (stdout, stderr) = capture.written();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Captured { code, stdout: text(stdout), stderr: text(stderr) }
    })
}

/// Returns the commands of the table, which each call one rpc: `gateway list`.
pub fn table_commands() -> impl Iterator<Item = &'static str> {
    commands::table_commands()
}

/// Returns the nouns and verbs of the commands that are written by hand: `sandbox` and `exec`.
pub fn hand_written_commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    acts::ALL.iter().map(|act| (act.noun, act.verb))
}

/// Prints help to standard output and other errors to standard error, as clap does.
fn report_parse_error(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if error.use_stderr() {
        output::print_error(text.trim_end());
    } else {
        let _ = output::print_result(text.trim_end());
    }
    parse_exit_code(error)
}

fn parse_exit_code(error: &clap::Error) -> u8 {
    u8::try_from(error.exit_code()).unwrap_or(error::WRONG)
}

/// Prints the error, if there is one, and returns the exit code.
fn report(done: Result<(), CliError>) -> u8 {
    let Err(failure) = done else { return 0 };
    let why = failure.to_string();
    if !why.is_empty() {
        output::print_error(&why);
    }
    failure.exit_code()
}

/// Runs any command to its end.
fn start(matches: &ArgMatches) -> Result<(), CliError> {
    if is_client_command(matches) {
        let command = run_client_command(matches);
        return if commands::is_act(matches) {
            block_on(command)
        } else {
            block_on(interruptible(command))
        };
    }
    let cli = Cli::from_arg_matches(matches).map_err(|error| usage(&error))?;
    match cli.command {
        Command::Serve(args) => block_on(async { serve::run(args.load()?).await }),
        Command::Dev(args) => block_on(dev::run(args)),
        Command::Admin(args) => block_on(admin::run(args)),
        Command::Migrate(args) => block_on(async { migrate::run(args.load()?).await }),
        Command::Backup(args) => block_on(backup::run(&args)),
        Command::Restore(args) => block_on(restore::run(&args)),
        Command::CheckConfig(args) => block_on(async { check_config::run(&args) }),
        Command::Call(args) => block_on(interruptible(call::run(args))),
        Command::Login(args) => block_on(interruptible(login::run(args))),
        Command::Logout(args) => block_on(interruptible(logout::run(args))),
        Command::Whoami(args) => block_on(interruptible(whoami::run(args))),
        Command::Context(args) => block_on(interruptible(context::run(args))),
        Command::Completion(args) => scripts::print_completion(&args),
        Command::Help(args) => help::run(&args),
        Command::Man(args) => scripts::write_manual(&args),
        Command::HookExec(args) => hook_exec::run(&args),
    }
}

/// Whether the command calls a server and does nothing else.
fn is_client_command(matches: &ArgMatches) -> bool {
    matches.subcommand_name().is_some_and(|name| name == "call" || commands::is_noun(name))
}

/// Runs a command that calls a server.
async fn run_client_command(matches: &ArgMatches) -> Result<(), CliError> {
    if let Some((noun, matches)) = matches.subcommand()
        && commands::is_noun(noun)
    {
        return commands::run(noun, matches).await;
    }
    let cli = Cli::from_arg_matches(matches).map_err(|error| usage(&error))?;
    match cli.command {
        Command::Call(args) => call::run(args).await,
        Command::Login(args) => login::run(args).await,
        Command::Logout(args) => logout::run(args).await,
        Command::Whoami(args) => whoami::run(args).await,
        Command::Context(args) => context::run(args).await,
        Command::Help(args) => help::run(&args),
        Command::Completion(args) => scripts::print_completion(&args),
        Command::Serve(_)
        | Command::Dev(_)
        | Command::Admin(_)
        | Command::Migrate(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::CheckConfig(_)
        | Command::Man(_)
        | Command::HookExec(_) => {
            Err(CliError::Usage("this command needs a process of its own".to_owned()))
        }
    }
}

/// Returns the error of clap about arguments as ours.
fn usage(error: &clap::Error) -> CliError {
    CliError::Usage(error.render().to_string().trim_end().to_owned())
}

fn block_on(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(command);
    if matches!(done, Err(CliError::Interrupted)) {
        runtime.shutdown_background();
    } else {
        // Blocking work on a hanging disk or name server does not delay the exit.
        runtime.shutdown_timeout(RUNTIME_END_TIME);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_definition_is_valid() {
        definition().debug_assert();
    }

    #[test]
    fn set_takes_a_key_and_a_value() {
        let value = ("database.url".to_owned(), "a=b".to_owned());
        assert_eq!(key_and_value("database.url=a=b"), Ok(value));
        assert!(key_and_value("server.listen").is_err());
    }

    #[test]
    fn a_key_on_the_command_line_is_not_shown_by_debug() {
        let cli = Cli::parse_from(["shoreguard", "call", "--key", "hunter2", "GetServerInfo"]);
        assert!(!format!("{cli:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn wrong_arguments_name_the_flag_and_exit_with_2() {
        let cases: [(&[&str], &str); 4] = [
            (&["gateway", "list", "--limit", "many"], "--limit"),
            (&["gateway", "list", "--bogus"], "--bogus"),
            (&["sandbox", "list", "-o", "xml"], "--output"),
            (&["user", "invite", "ana@example.com", "--role", "king"], "--role"),
        ];
        for (arguments, named) in cases {
            let arguments = ["shoreguard"].iter().chain(arguments).map(|a| (*a).to_owned());
            let done = run_captured(arguments.collect(), Vec::new()).await;
            assert_eq!(done.code, 2, "{done:?}");
            assert!(done.stderr.contains(named) && done.stdout.is_empty(), "{done:?}");
        }
    }
}
