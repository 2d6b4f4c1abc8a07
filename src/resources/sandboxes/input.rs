//! Validates what callers send about sandboxes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::characters::is_ascii_name;
use crate::db::types::{DEFAULT_WORKSPACE, SandboxName};
use crate::error::Error;
use crate::labels::{ACCESS_PREFIX, Labels};
use crate::openshell::exec::Command;
use crate::texts::{check_line, check_text};

/// Most characters of the name of a workspace or a sandbox.
pub const NAME_CHARACTERS_MAX: usize = 253;
/// Most characters of a gateway's id of a sandbox.
pub const ID_CHARACTERS_MAX: usize = 128;
/// Most characters of a description.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 1_000;
/// Most characters of an image reference.
pub const IMAGE_CHARACTERS_MAX: usize = 512;
/// Most providers of one sandbox.
pub const PROVIDERS_MAX: usize = 20;
/// Most entries of an environment.
pub const ENVIRONMENT_MAX: usize = 100;
/// Most characters of the name of an environment variable.
pub const ENVIRONMENT_KEY_CHARACTERS_MAX: usize = 256;
/// Most characters of the value of an environment variable.
pub const ENVIRONMENT_VALUE_CHARACTERS_MAX: usize = 8_192;
/// Most arguments of a command, including the program.
pub const COMMAND_WORDS_MAX: usize = 256;
/// Most bytes of a command with its arguments.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;
/// Most characters of a working directory.
pub const WORKDIR_CHARACTERS_MAX: usize = 4_096;
/// Longest timeout of a command.
pub const COMMAND_TIME_MAX: Duration = Duration::from_hours(1);
/// Most bytes of standard input of a command that is not interactive.
pub const STDIN_BYTES_MAX: usize = 256 << 10;
/// Most columns, and rows, of a terminal.
pub const TERMINAL_MAX: u32 = 10_000;

/// Parses the workspace and the name of a sandbox.
pub fn full_name(workspace: &str, sandbox: &str) -> Result<SandboxName, Error> {
    let workspace = self::workspace(workspace)?;
    Ok(SandboxName { workspace, name: name("sandbox", sandbox)? })
}

/// Parses a workspace. Empty selects `default`.
pub fn workspace(given: &str) -> Result<String, Error> {
    if given.is_empty() { Ok(DEFAULT_WORKSPACE.to_owned()) } else { name("workspace", given) }
}

/// Checks a name of a workspace, sandbox, provider or template.
pub fn name(field: &str, given: &str) -> Result<String, Error> {
    let count = given.chars().count();
    if !(1..=NAME_CHARACTERS_MAX).contains(&count) {
        let why = format!("must have 1 to {NAME_CHARACTERS_MAX} characters, got {count}");
        return Err(Error::invalid(field, why));
    }
    if !is_ascii_name(given) {
        let why = "must be letters, digits, `.`, `_` and `-`, the first a letter or digit";
        return Err(Error::invalid(field, why));
    }
    Ok(given.to_owned())
}

/// Checks that a text has one line and at most `max` characters. It may be empty.
pub fn line(field: &str, given: String, max: usize) -> Result<String, Error> {
    check_line(field, &given, max)?;
    Ok(given)
}

/// Checks a description. `None` if it is empty.
pub fn description(given: String) -> Result<Option<String>, Error> {
    check_text("description", &given, DESCRIPTION_CHARACTERS_MAX, "\n\t")?;
    Ok(Some(given).filter(|text| !text.is_empty()))
}

/// Parses labels of a sandbox. Labels that control access are only for gateways.
pub fn labels(given: BTreeMap<String, String>) -> Result<Labels, Error> {
    if let Some(key) = given.keys().find(|key| key.starts_with(ACCESS_PREFIX)) {
        let why = format!("has `{key}`, and `{ACCESS_PREFIX}` is for gateways");
        return Err(Error::invalid("labels", why));
    }
    Labels::parse("labels", given)
}

/// Checks names of providers.
pub fn providers(given: &[String]) -> Result<Vec<String>, Error> {
    if given.len() > PROVIDERS_MAX {
        let why = format!("must be at most {PROVIDERS_MAX}, got {}", given.len());
        return Err(Error::invalid("providers", why));
    }
    given.iter().map(|given| name("providers", given)).collect()
}

/// Checks environment variables.
pub fn environment(given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    let invalid = |why: String| Err(Error::invalid("environment", why));
    if given.len() > ENVIRONMENT_MAX {
        return invalid(format!("must be at most {ENVIRONMENT_MAX} entries, got {}", given.len()));
    }
    for (key, value) in &given {
        let sound = |c: char| !c.is_control() && c != '=';
        if !(1..=ENVIRONMENT_KEY_CHARACTERS_MAX).contains(&key.chars().count())
            || !key.chars().all(sound)
        {
            return invalid(format!(
                "must have names of 1 to {ENVIRONMENT_KEY_CHARACTERS_MAX} characters, without `=` or control characters"
            ));
        }
        // The message does not repeat the value, which may be secret.
        if value.chars().count() > ENVIRONMENT_VALUE_CHARACTERS_MAX || value.contains('\0') {
            return invalid(format!(
                "has an invalid value at `{key}`: must be at most {ENVIRONMENT_VALUE_CHARACTERS_MAX} characters, without NUL"
            ));
        }
    }
    Ok(given)
}

/// Checks the log level of a sandbox.
pub fn log_level(given: &str) -> Result<String, Error> {
    match given {
        "" | "debug" | "info" | "warn" | "error" => Ok(given.to_owned()),
        _ => Err(Error::invalid("log_level", "must be `debug`, `info`, `warn`, `error` or empty")),
    }
}

/// Checks a command with its timeout and terminal size. [`environment`] checks the environment.
pub fn command(command: Command) -> Result<Command, Error> {
    let bytes: usize = command.argv.iter().map(String::len).sum();
    if !(1..=COMMAND_WORDS_MAX).contains(&command.argv.len()) || bytes > COMMAND_BYTES_MAX {
        let why = format!(
            "must have 1 to {COMMAND_WORDS_MAX} words, with at most {COMMAND_BYTES_MAX} bytes in total"
        );
        return Err(Error::invalid("command", why));
    }
    if command.argv[0].is_empty() || command.argv.iter().any(|word| word.contains('\0')) {
        return Err(Error::invalid("command", "must name a program, and have no NUL"));
    }
    if command.timeout > COMMAND_TIME_MAX {
        let why = format!("must be at most {} s", COMMAND_TIME_MAX.as_secs());
        return Err(Error::invalid("timeout", why));
    }
    if command.stdin.len() > STDIN_BYTES_MAX {
        let why = format!("must be at most {STDIN_BYTES_MAX} bytes, got {}", command.stdin.len());
        return Err(Error::invalid("stdin", why));
    }
    size("size", command.size)?;
    let workdir = line("workdir", command.workdir, WORKDIR_CHARACTERS_MAX)?;
    Ok(Command { workdir, ..command })
}

/// Checks columns and rows of a terminal.
pub fn size(field: &str, (cols, rows): (u32, u32)) -> Result<(u32, u32), Error> {
    if cols > TERMINAL_MAX || rows > TERMINAL_MAX {
        let why = format!("must be at most {TERMINAL_MAX} columns and rows");
        return Err(Error::invalid(field, why));
    }
    Ok((cols, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_and_workspace_names_are_validated() {
        assert!(full_name("", "agent-1").is_ok_and(|place| place.workspace == "default"));
        assert!(full_name("team", &"a".repeat(NAME_CHARACTERS_MAX)).is_ok());
        for bad in ["", "-a", ".", "a b", "a/b", "a\n", &"a".repeat(NAME_CHARACTERS_MAX + 1)] {
            assert!(full_name("", bad).is_err(), "{bad:?}");
            assert!(full_name(bad, "a").is_err() || bad.is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn t20_texts_of_a_sandbox_are_read_as_they_are_stored() {
        assert!(description("two\nlines, \u{e4}".to_owned()).is_ok());
        assert!(line("image", "registry/\u{e4}".to_owned(), 20).is_ok());
        for bad in ["\u{1b}[2J", "safe \u{202e}live", "a\u{2029}b"] {
            assert!(description(bad.to_owned()).is_err(), "{bad:?}");
            assert!(line("image", bad.to_owned(), 20).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_environment_is_limited_and_errors_do_not_repeat_its_values() {
        let one = |key: &str, value: String| environment([(key.to_owned(), value)].into());
        assert!(one("K", "v".repeat(ENVIRONMENT_VALUE_CHARACTERS_MAX)).is_ok());
        let error = one("K", "hush".repeat(ENVIRONMENT_VALUE_CHARACTERS_MAX)).unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
        assert!(one("", String::new()).is_err() && one("A=B", String::new()).is_err());
        let many = (0..=ENVIRONMENT_MAX).map(|i| (format!("K{i}"), String::new()));
        assert!(environment(many.collect()).is_err());
    }

    #[test]
    fn the_size_and_timeout_of_a_command_are_limited() {
        let of = |argv: &[&str]| {
            let argv = argv.iter().map(|word| (*word).to_owned()).collect();
            command(Command { argv, ..Command::default() })
        };
        assert!(of(&["true"]).is_ok());
        assert!(of(&[]).is_err() && of(&[""]).is_err() && of(&["a\0b"]).is_err());
        assert!(
            of(&["x"; COMMAND_WORDS_MAX]).is_ok() && of(&["x"; COMMAND_WORDS_MAX + 1]).is_err()
        );
        assert!(of(&[&"x".repeat(COMMAND_BYTES_MAX + 1)]).is_err());
        let late = COMMAND_TIME_MAX + Duration::from_secs(1);
        let argv = vec!["sleep".to_owned()];
        assert!(command(Command { argv, timeout: late, ..Command::default() }).is_err());
    }

    #[test]
    fn t07_a_sandbox_cannot_have_access_labels() {
        assert!(labels([("env".to_owned(), "prod".to_owned())].into()).is_ok());
        assert!(labels([("access/zone".to_owned(), "eu".to_owned())].into()).is_err());
    }
}
