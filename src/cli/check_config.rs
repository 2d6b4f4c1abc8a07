//! `shoreguard check-config`: prints the effective configuration, or every error in it.

use super::{CliError, ConfigArgs, output};
use crate::templates;

/// Prints the configuration with `***` in place of secrets.
pub(super) fn run(args: &ConfigArgs) -> Result<(), CliError> {
    let config = args.load()?;
    // The server reads the templates at startup and rejects faults in them like other configuration errors.
    templates::file::load(config.sandboxes.templates_folder.as_deref())
        .map_err(|error| CliError::Usage(error.to_string()))?;
    output::print_result(config.redacted().trim_end())?;
    Ok(())
}
