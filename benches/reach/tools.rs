//! Programs that `scripts/bench-tools` installs, or that this host has.

use std::path::PathBuf;
use std::process::Command;

use crate::BoxError;

/// Programs that the bench can use, and the argument that prints the version of each.
const PROGRAMS: [(&str, &str); 4] =
    [("haproxy", "-v"), ("nginx", "-v"), ("envoy", "--version"), ("h2load", "--version")];

/// Folders of programs that PATH often lacks.
const MORE_FOLDERS: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];

/// Returns the target folder of cargo. This program is in `release/deps` of it.
pub(crate) fn target_folder() -> Result<PathBuf, BoxError> {
    let own = std::env::current_exe()?;
    Ok(own.ancestors().nth(3).ok_or("this program is not in a target folder")?.to_owned())
}

/// Finds a program: first the installed one, then one on PATH.
pub(crate) fn find(name: &str) -> Result<PathBuf, BoxError> {
    let tools = target_folder()?.join("tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(tools.join(name).join("bin"))
        .chain(std::env::split_paths(&path))
        .chain(MORE_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    found.ok_or_else(|| match std::fs::read_to_string(tools.join(format!("{name}.missing"))) {
        Ok(reason) => format!("`{name}` could not be installed: {}", reason.trim()).into(),
        Err(_) => format!("`{name}` is not installed: run `scripts/bench-tools`").into(),
    })
}

/// Returns the versions of the programs that exist.
pub(crate) fn versions() -> Vec<String> {
    PROGRAMS.iter().filter_map(|(name, flag)| version(name, flag)).collect()
}

fn version(name: &str, flag: &str) -> Option<String> {
    let program = find(name).ok()?;
    let output = Command::new(&program).arg(flag).output().ok()?;
    // nginx prints its version on standard error.
    let bytes = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    // Envoy prints its path before its version, and HAProxy a link after it.
    let line = line.split(" - ").next()?.trim();
    let path = program.to_string_lossy();
    let shown = line.strip_prefix(path.as_ref()).unwrap_or(line).trim();
    Some(format!("{name}: {shown}"))
}
