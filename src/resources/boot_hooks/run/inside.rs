//! Hooks that run after the creation: commands inside the sandbox.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Attempt;
use super::output::{self, Output};
use crate::app::App;
use crate::db::types::SandboxRef;
use crate::error::{Error, Reason};
use crate::openshell::Gateway;
use crate::openshell::exec::{self, Command};
use crate::resources::boot_hooks::input::{self};
use crate::resources::boot_hooks::sealed;
use crate::resources::boot_hooks::store::Hook;

/// Additional time to wait after the timeout of a command: the gateway stops the command and reports that.
const GRACE: Duration = Duration::from_secs(10);

/// Result of a finished command.
#[derive(Debug, Clone)]
pub struct CommandResult {
    /// Exit code.
    pub exit_code: i32,
    /// Standard output, a newline and standard error; may be truncated.
    pub output: Vec<u8>,
    /// Whether the output was truncated.
    pub truncated: bool,
}

/// A sandbox that is ready to run commands.
pub trait SandboxExec: Sync {
    /// Runs a command to its end.
    fn run(&self, command: Command) -> impl Future<Output = Result<CommandResult, Error>> + Send;
}

/// A sandbox that is reached through its gateway, which is looked up again for each command.
pub struct GatewaySandbox {
    app: Arc<App>,
    place: SandboxRef,
}

impl GatewaySandbox {
    /// Returns the sandbox of a place.
    #[must_use]
    pub fn new(app: &Arc<App>, place: &SandboxRef) -> Self {
        Self { app: Arc::clone(app), place: place.clone() }
    }
}

impl SandboxExec for GatewaySandbox {
    async fn run(&self, command: Command) -> Result<CommandResult, Error> {
        let name = &self.place.gateway.name;
        let reached = Gateway::connect(&self.app, &self.place.gateway).await?;
        let mut outputs = reached.exec(&self.place.name, &command).await?;
        let bytes_max = self.app.config.boot_hooks.output_kib_max as usize * 1024;
        // Both streams are buffered from their beginning, independent of the length of the other.
        let (mut out, mut err, mut exit_code) = (Output::default(), Output::default(), None);
        while let Some(output) = outputs.next().await? {
            let seen = match output {
                exec::Output::Stdout(bytes) => out.append(&bytes) + err.total(),
                exec::Output::Stderr(bytes) => err.append(&bytes) + out.total(),
                exec::Output::Exit(code) => {
                    exit_code = Some(code);
                    continue;
                }
            };
            if seen > bytes_max {
                // Dropping the response stream makes the gateway stop the command.
                let why = "wrote more output than `boot_hooks.output_kib_max` allows";
                return Err(Error::refused(Reason::LimitReached, why));
            }
        }
        let why = || format!("gateway `{name}` has not said how the command ended");
        let exit_code =
            exit_code.ok_or_else(|| Error::unavailable(Reason::GatewayUnreachable, why()))?;
        let truncated = out.is_cut() || err.is_cut();
        // If standard output is truncated, there is no room for standard error, and the beginning of a truncated secret
        // must stay at the end, where it is removed.
        let output = if out.is_cut() {
            out.buffered().to_vec()
        } else {
            join_streams(out.buffered(), err.buffered())
        };
        Ok(CommandResult { exit_code, output, truncated })
    }
}

/// Joins both streams, separated by a newline.
fn join_streams(out: &[u8], err: &[u8]) -> Vec<u8> {
    let parts_lines = out.is_empty() || err.is_empty() || out.ends_with(b"\n");
    let between: &[u8] = if parts_lines { b"" } else { b"\n" };
    [out, between, err].concat()
}

/// Runs a hook. Every error becomes a failure of the hook, so that no hook is skipped silently.
pub(super) async fn run(
    app: &App,
    hook: &Hook,
    inside: &impl SandboxExec,
    cancel: &CancellationToken,
) -> Attempt {
    let environment = match sealed::open(app, hook) {
        Ok(environment) => environment,
        Err(error) => return Attempt::from_error(&error),
    };
    let argv = match input::split_words(&hook.command) {
        Ok(argv) => argv,
        Err(why) => return Attempt::failed(format!("the command {why}")),
    };
    let limit = Duration::from_secs(u64::try_from(hook.timeout_seconds).unwrap_or(1));
    let command = Command {
        argv,
        workdir: hook.workdir.clone(),
        environment: environment.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        timeout: limit,
        ..Command::default()
    };
    let finished = tokio::select! {
        finished = tokio::time::timeout(limit + GRACE, inside.run(command)) => finished,
        () = cancel.cancelled() => return Attempt::cancelled(String::new()),
    };
    match finished {
        Err(_) => Attempt::failed(format!("took longer than {} s", limit.as_secs())),
        Ok(Err(error)) => {
            let mut attempt = Attempt::from_error(&error);
            // The message of a gateway may quote values of variables.
            attempt.summary =
                output::mask_and_truncate(attempt.summary.as_bytes(), false, &environment);
            attempt
        }
        Ok(Ok(finished)) => {
            let output =
                output::mask_and_truncate(&finished.output, finished.truncated, &environment);
            let code = finished.exit_code;
            Attempt::new(code == 0, format!("exit {code}"), output)
        }
    }
}
