//! Encryption of the variables of a hook: sealed as one value, bound to the hook, its command and its working
//! directory.

use serde_json::json;

use super::input::Environment;
use super::store::Hook;
use crate::app::App;
use crate::db::types::Json;
use crate::error::Error;
use crate::seal::{Aad, hex, join_parts};

/// Returns a name for the row that is known before its id.
fn row_key(hook: &Hook) -> String {
    let Hook { gateway_name, workspace, sandbox_name, phase, name, .. } = hook;
    json!([gateway_name, workspace, sandbox_name, phase.as_str(), name]).to_string()
}

/// Returns the command and working directory that the variables are bound to (T04): a caller who can change a hook, or
/// write to the database, cannot pass the values to a different command.
pub(super) fn destination(hook: &Hook) -> String {
    hex(&join_parts(&[hook.command.as_bytes(), hook.workdir.as_bytes()]))
}

fn aad<'a>(row: &'a str, destination: &'a str) -> Aad<'a> {
    Aad { table: "sandbox_boot_hooks", column: "env_json", row, destination }
}

/// Seals variables into a hook. Its command and working directory must have their final values.
pub(super) fn seal(app: &App, hook: &mut Hook, environment: &Environment) -> Result<(), Error> {
    let (row, destination) = (row_key(hook), destination(hook));
    hook.env_names = Json(environment.names());
    hook.env_json = if environment.is_empty() {
        None
    } else {
        Some(app.master.seal(&aad(&row, &destination), &environment.to_json()?)?)
    };
    Ok(())
}

/// Returns the variables of a hook with their values.
pub(super) fn open(app: &App, hook: &Hook) -> Result<Environment, Error> {
    let Some(sealed) = &hook.env_json else { return Ok(Environment::default()) };
    let (row, destination) = (row_key(hook), destination(hook));
    Environment::from_json(&app.master.open(&aad(&row, &destination), sealed)?)
}
