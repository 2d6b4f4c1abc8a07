//! `shoreguard check-config`: what a server would start with, or everything that would stop it.

use super::{ConfigArgs, Failure, output};
use crate::templates;

/// Prints the configuration with its secrets as `***`.
pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config = args.load()?;
    // Read by the server at start, and a fault of the configuration as any other.
    templates::file::load(config.sandboxes.templates_folder.as_deref())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    output::answer(config.redacted().trim_end())?;
    Ok(())
}
