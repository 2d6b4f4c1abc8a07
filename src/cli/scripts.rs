//! Files that are made out of the definition of the commands: completions of shells and manual pages.

use std::path::PathBuf;

use clap_complete::Shell;

use super::{CliError, definition, output};

/// The shell to complete commands in.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// Name of the shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Where to write the manual.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Folder, which must exist.
    folder: PathBuf,
}

/// Prints the script.
pub(super) fn print_completion(args: &CompletionArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "shoreguard", &mut script);
    // The script is made of our own definitions, and its tabs are part of it.
    let _ = output::print_bytes(&script)?;
    Ok(())
}

/// Writes a page for each command.
pub(super) fn write_manual(args: &ManArgs) -> Result<(), CliError> {
    clap_mangen::generate_to(definition(), &args.folder).map_err(|error| {
        CliError::Io(format!("`{}` cannot be written: {error}", args.folder.display()))
    })
}
