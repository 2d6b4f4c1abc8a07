//! `shoreguard check-config`: what a server would start with, or everything that would stop it.

use super::{ConfigArgs, Failure, output};

/// Prints the configuration with its secrets as `***`.
pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config = args.load()?;
    output::answer(config.redacted().trim_end())?;
    Ok(())
}
