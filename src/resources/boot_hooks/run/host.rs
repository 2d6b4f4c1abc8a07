//! Hooks that run before the creation: files of the configured folder, on Shoreguard's host.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::process::{self, Job, KillReason, ProcessEnd};
use super::{Attempt, SandboxSpec};
use crate::app::App;
use crate::db::types::SandboxRef;
use crate::error::{Error, Reason};
use crate::resources::boot_hooks::input::{self, Environment, HookPhase, OWN_PREFIX};
use crate::resources::boot_hooks::sealed;
use crate::resources::boot_hooks::store::Hook;
use crate::safe_paths;

/// `PATH` of a hook, independent of the server's own environment.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Returns the folder with the allowed programs.
///
/// # Errors
/// `FEATURE_DISABLED` if none is configured.
pub fn folder(app: &App) -> Result<&Path, Error> {
    app.config.boot_hooks.pre_create_folder.as_deref().ok_or_else(|| {
        let why =
            "hooks before the creation are disabled: `boot_hooks.pre_create_folder` is not configured";
        Error::refused(Reason::FeatureDisabled, why)
    })
}

/// Runs a hook. Every error becomes a failure of the hook.
pub(super) async fn run(
    app: &App,
    place: &SandboxRef,
    hook: &Hook,
    spec: &SandboxSpec,
    cancel: &CancellationToken,
) -> Attempt {
    let environment = match sealed::open(app, hook) {
        Ok(environment) => environment,
        Err(error) => return Attempt::from_error(&error),
    };
    let job = match job(app, place, hook, spec, &environment) {
        Ok(job) => job,
        Err(why) => return Attempt::failed(why),
    };
    match process::run(&app.config.boot_hooks, &job, cancel).await {
        Ok((ProcessEnd::Killed(KillReason::Cancelled), output)) => {
            Attempt::cancelled(output.to_stored(&environment))
        }
        Ok((ended, output)) => {
            let (good, summary) = ended.describe(job.timeout);
            Attempt::new(good, summary, output.to_stored(&environment))
        }
        Err(error) => Attempt::from_error(&error),
    }
}

/// Prepares the process. The folder and the file are checked now, not when the hook was written, since both may have
/// changed.
fn job(
    app: &App,
    place: &SandboxRef,
    hook: &Hook,
    spec: &SandboxSpec,
    environment: &Environment,
) -> Result<Job, String> {
    let folder = folder(app).map_err(|error| error.to_string())?;
    let folder =
        safe_paths::check_folder(folder).map_err(|why| format!("the folder of hooks {why}"))?;
    let mut words =
        input::split_words(&hook.command).map_err(|why| format!("the command {why}"))?;
    let program = words.remove(0);
    let found = safe_paths::find_executable(&folder, &program)
        .map_err(|why| format!("the command {why}"))?;
    environment
        .check_phase("environment", HookPhase::PreCreate)
        .map_err(|error| error.to_string())?;
    let ours = [
        ("SANDBOX_NAME", place.sandbox()),
        ("SANDBOX_IMAGE", &spec.image),
        ("SANDBOX_POLICY_ID", &spec.policy_id),
        ("GATEWAY_NAME", &place.gateway.name),
        ("HOOK_NAME", &hook.name),
    ];
    let ours = ours.map(|(name, value)| (format!("{OWN_PREFIX}{name}"), value.to_owned()));
    let theirs = environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let path = ("PATH".to_owned(), PATH.to_owned());
    Ok(Job {
        program: found,
        arguments: words,
        environment: std::iter::once(path).chain(ours).chain(theirs).collect(),
        timeout: Duration::from_secs(u64::try_from(hook.timeout_seconds).unwrap_or(1)),
    })
}
