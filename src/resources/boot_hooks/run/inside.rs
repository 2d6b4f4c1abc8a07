//! A hook after the creation: a command inside the sandbox.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Attempt, output};
use crate::app::App;
use crate::error::Error;
use crate::resources::boot_hooks::domain::opened;
use crate::resources::boot_hooks::input::{self, Environment};
use crate::resources::boot_hooks::store::Hook;

/// How much longer than its own limit a command is waited for: the gateway ends it, and tells.
const GRACE: Duration = Duration::from_secs(10);

/// What is to run inside a sandbox.
#[derive(Debug, Clone)]
pub struct Command {
    /// The words of the command; never none.
    pub argv: Vec<String>,
    /// The working directory; empty is the sandbox's own.
    pub workdir: String,
    /// Its variables.
    pub environment: Environment,
    /// How long it may take.
    pub timeout: Duration,
}

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code.
    pub exit_code: i32,
    /// Standard output, a newline, standard error; perhaps only the beginning.
    pub output: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

/// A sandbox that is ready.
pub trait Inside: Sync {
    /// Runs a command in it to its end.
    fn run(&self, command: Command) -> impl Future<Output = Result<Finished, Error>> + Send;
}

/// Runs it. Whatever stands in its way is its failure: none is left out silently.
pub(super) async fn run(
    app: &App,
    hook: &Hook,
    inside: &impl Inside,
    cancel: &CancellationToken,
) -> Attempt {
    let environment = match opened(app, hook) {
        Ok(environment) => environment,
        Err(error) => return Attempt::broken(error),
    };
    let argv = match input::words_of(&hook.command) {
        Ok(argv) => argv,
        Err(why) => return Attempt::failed(format!("the command {why}")),
    };
    let limit = Duration::from_secs(u64::try_from(hook.timeout_seconds).unwrap_or(1));
    let command = Command {
        argv,
        workdir: hook.workdir.clone(),
        environment: environment.clone(),
        timeout: limit,
    };
    let finished = tokio::select! {
        finished = tokio::time::timeout(limit + GRACE, inside.run(command)) => finished,
        () = cancel.cancelled() => return Attempt::failed("cancelled".to_owned()),
    };
    match finished {
        Err(_) => Attempt::failed(format!("took longer than {} s", limit.as_secs())),
        // A fault of ours is logged here, and told without its cause.
        Ok(Err(error)) => Attempt::broken(error),
        Ok(Ok(finished)) => {
            let output = output::shown(&finished.output, finished.truncated, &environment);
            let code = finished.exit_code;
            Attempt::new(code == 0, format!("exit {code}"), output)
        }
    }
}
