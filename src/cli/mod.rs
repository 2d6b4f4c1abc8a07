//! The command line: one file per command, each of which makes one call into other modules.
//!
//! Invariants
//! - standard output holds results only; errors are written to standard error;
//! - the exit code is 0 for success, 1 if the call was refused or failed, 2 if the command or configuration is wrong;
//! - text from a server is escaped before it is written to the terminal.

mod admin;
mod call;
mod check_config;
mod data_dir;
mod dev;
mod dev_key;
mod hook_exec;
mod migrate;
mod output;
mod preflight;
mod serve;

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tonic::Status;

use crate::config::{Config, Faults, Sources};
use crate::error::Error;
use crate::telemetry;

/// How long a finished command waits for blocking work that it no longer needs.
const RUNTIME_END_TIME: Duration = Duration::from_secs(2);

/// The control plane for fleets of OpenShell gateways.
#[derive(Debug, Parser)]
#[command(name = "shoreguard", version)]
pub struct Cli {
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
    /// Checks the configuration: lists all errors, or prints it with `***` in place of secrets.
    CheckConfig(ConfigArgs),
    /// Calls a method of a server or of a gateway behind it.
    Call(call::CallArgs),
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

/// The reason why a command failed.
#[derive(Debug)]
pub(crate) enum CliError {
    /// The command or its arguments are wrong.
    Usage(String),
    /// The configuration is wrong.
    Config(Faults),
    /// The server refused or failed.
    Call(Box<Status>),
    /// Something that the command needs is wrong or unavailable. The user of a command may see the cause.
    Internal(Error),
    /// The server could not be reached, or the result could not be written.
    Io(String),
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Config(_) => ExitCode::from(2),
            Self::Call(_) | Self::Internal(_) | Self::Io(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) | Self::Io(why) => f.write_str(why),
            Self::Config(faults) => write!(f, "{faults}"),
            Self::Call(status) => f.write_str(&call::format_status(status)),
            Self::Internal(error) => {
                write!(f, "{error}")?;
                let mut source = error.source();
                while let Some(error) = source {
                    write!(f, ": {error}")?;
                    source = error.source();
                }
                Ok(())
            }
        }
    }
}

impl From<Faults> for CliError {
    fn from(faults: Faults) -> Self {
        Self::Config(faults)
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        Self::Internal(error)
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// Runs the command.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(args) => block_on(async { serve::run(args.load()?).await }),
        Command::Dev(args) => block_on(dev::run(args)),
        Command::Admin(args) => block_on(admin::run(args)),
        Command::Migrate(args) => block_on(async { migrate::run(args.load()?).await }),
        Command::CheckConfig(args) => block_on(async { check_config::run(&args) }),
        Command::Call(args) => block_on(call::run(args)),
        Command::HookExec(args) => hook_exec::run(&args),
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::print_error(&failure.to_string());
            failure.exit_code()
        }
    };
    telemetry::flush_log();
    code
}

fn block_on(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(command);
    // Blocking work on a hanging disk or name server does not delay the exit.
    runtime.shutdown_timeout(RUNTIME_END_TIME);
    done
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_definition_is_valid() {
        Cli::command().debug_assert();
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
}
