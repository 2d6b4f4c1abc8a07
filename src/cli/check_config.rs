//! `shoreguard check-config`: prints the effective configuration, or every error in it.

use super::{CliError, ConfigArgs, output, preflight};

/// Prints the configuration with `***` in place of secrets.
pub(super) fn run(args: &ConfigArgs) -> Result<(), CliError> {
    let config = args.load()?;
    preflight::check(&config)?;
    output::print_result(config.redacted().trim_end())?;
    Ok(())
}
