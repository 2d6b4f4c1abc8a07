//! Parsing and validation of the fields of a hook.

use std::collections::BTreeMap;

use unicode_normalization::is_nfc;
use zeroize::Zeroizing;

use crate::characters::excerpt;
use crate::ctx::Ctx;
use crate::db::types::{SandboxName, SandboxRef};
use crate::error::Error;
use crate::names::is_letter_or_digit;
use crate::texts::check_text;
use crate::words;

/// Maximum length of the name of a hook, in characters.
pub const NAME_CHARACTERS_MAX: usize = 128;
/// Maximum length of a command, in characters.
pub const COMMAND_CHARACTERS_MAX: usize = 8192;
/// Maximum length of a working directory, in characters.
pub const WORKDIR_CHARACTERS_MAX: usize = 512;
/// Maximum number of variables of a hook.
pub const VARIABLES_MAX: usize = 100;
/// Maximum length of the name of a variable, in bytes.
pub const VARIABLE_NAME_BYTES_MAX: usize = 256;
/// Maximum length of the value of a variable, in bytes.
pub const VARIABLE_VALUE_BYTES_MAX: usize = 8192;
/// Maximum total length of all names and values, in bytes.
pub const ENVIRONMENT_BYTES_MAX: usize = 64 * 1024;
/// Maximum timeout of a hook, in seconds.
pub const TIMEOUT_SECONDS_MAX: i32 = 600;
/// Timeout of a hook if the request has none, in seconds.
pub const TIMEOUT_SECONDS_DEFAULT: i32 = 30;

words! {
    /// When and where a hook runs.
    pub enum HookPhase {
        /// Before the creation, on Shoreguard's host.
        PreCreate = "pre_create",
        /// After the creation, inside the sandbox.
        PostCreate = "post_create",
    }
}

words! {
    /// Result of a run.
    pub enum HookStatus {
        /// Exit code 0.
        Success = "success",
        /// Any other result.
        Failure = "failure",
    }
}

/// Parses the sandbox of a hook, on the gateway of the call. An empty workspace means `default`.
pub fn sandbox_ref(ctx: &Ctx, workspace: String, sandbox: String) -> Result<SandboxRef, Error> {
    let name = SandboxName::parse("", workspace, sandbox)?;
    Ok(SandboxRef { gateway: ctx.required_gateway()?.clone(), name })
}

/// Parses the name of a hook.
pub fn name(field: &str, text: String) -> Result<String, Error> {
    let good = |c: char| is_letter_or_digit(c) || "._- ".contains(c);
    let count = text.chars().count();
    let fits = (1..=NAME_CHARACTERS_MAX).contains(&count) && text.trim() == text;
    if !fits || !text.chars().all(good) || !is_nfc(&text) {
        let why = format!(
            "must be 1 to {NAME_CHARACTERS_MAX} letters, digits, `.`, `_`, `-` and inner spaces"
        );
        return Err(Error::invalid(field, why));
    }
    Ok(text)
}

/// Parses a command, which must have at least one word, and no characters that would hide from a reviewer what runs.
pub fn command(field: &str, text: String) -> Result<String, Error> {
    check_text(field, &text, COMMAND_CHARACTERS_MAX, "\n\t")?;
    split_words(&text).map_err(|why| Error::invalid(field, why))?;
    Ok(text)
}

/// Splits a command into words like a POSIX shell. The result has at least one word.
pub fn split_words(command: &str) -> Result<Vec<String>, &'static str> {
    let words = shlex::split(command).ok_or("has a quote or backslash that is not closed")?;
    match words.first() {
        None => Err("must not be empty"),
        Some(program) if program.is_empty() => Err("must not begin with an empty word"),
        Some(_) => Ok(words),
    }
}

/// Parses a working directory, which may be empty.
pub fn workdir(field: &str, text: String) -> Result<String, Error> {
    check_text(field, &text, WORKDIR_CHARACTERS_MAX, "\n\t")?;
    if text.contains('\n') {
        return Err(Error::invalid(field, "must be one line"));
    }
    Ok(text)
}

/// Parses a timeout.
pub fn timeout(field: &str, seconds: i32) -> Result<i64, Error> {
    if !(1..=TIMEOUT_SECONDS_MAX).contains(&seconds) {
        let why = format!("must be 1 to {TIMEOUT_SECONDS_MAX} seconds, got {seconds}");
        return Err(Error::invalid(field, why));
    }
    Ok(i64::from(seconds))
}

/// Prefix of the variables that Shoreguard sets for a hook on its host.
pub const OWN_PREFIX: &str = "SG_";
/// Prefix of the variables that a hook on Shoreguard's host can set. The loader, shells, interpreters and libraries
/// read many variables that change what runs, and no list of those would be complete; they read none with this prefix.
pub const ALLOWED_PREFIX: &str = "HOOK_";

/// Environment variables of a hook; the values are secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// Parses the variables of a request.
    pub fn parse(
        field: &str,
        given: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let variables: BTreeMap<String, String> = given.into_iter().collect();
        if variables.len() > VARIABLES_MAX {
            let why = format!("must be at most {VARIABLES_MAX} variables, got {}", variables.len());
            return Err(Error::invalid(field, why));
        }
        for (name, value) in &variables {
            if !is_variable(name) {
                let shown = excerpt(name, 80);
                let why = format!(
                    "has the name `{shown}`: a name is a letter or `_`, then up to {} of letters, digits, `_`",
                    VARIABLE_NAME_BYTES_MAX - 1
                );
                return Err(Error::invalid(field, why));
            }
            if value.len() > VARIABLE_VALUE_BYTES_MAX || value.contains('\0') {
                let why = format!(
                    "has an invalid value at `{name}`: must be at most {VARIABLE_VALUE_BYTES_MAX} bytes, without NUL"
                );
                return Err(Error::invalid(field, why));
            }
        }
        let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > ENVIRONMENT_BYTES_MAX {
            let why = format!("must be at most {ENVIRONMENT_BYTES_MAX} bytes, got {bytes}");
            return Err(Error::invalid(field, why));
        }
        Ok(Self(variables))
    }

    /// Rejects variables that must not be passed to a process on Shoreguard's host: all but those with
    /// [`ALLOWED_PREFIX`]. Authors of a hook's variables must not be able to choose what runs there.
    pub fn check_phase(&self, field: &str, phase: HookPhase) -> Result<(), Error> {
        let refused = match phase {
            HookPhase::PreCreate => self.0.keys().find(|name| !name.starts_with(ALLOWED_PREFIX)),
            HookPhase::PostCreate => None,
        };
        let Some(name) = refused else { return Ok(()) };
        let why = format!(
            "must not set `{name}` in a pre-create hook: names must begin with `{ALLOWED_PREFIX}`"
        );
        Err(Error::invalid(field, why))
    }

    /// Returns whether there are no variables.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Iterates over names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Serializes the variables for sealing.
    pub(super) fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        serde_json::to_vec(&self.0).map(Zeroizing::new).map_err(Error::internal)
    }

    /// Parses the unsealed variables.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        // The parser's message could quote a value.
        let broken = |_| Error::internal("a sealed environment is not valid JSON");
        serde_json::from_slice(bytes).map(Self).map_err(broken)
    }
}

fn is_variable(name: &str) -> bool {
    name.len() <= VARIABLE_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str, value: &str) -> Result<Environment, Error> {
        Environment::parse("environment", [(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn hook_names_commands_and_timeouts_are_validated() {
        for good in ["a", "warm up", "Pr\u{fc}fung-1.2_x", &"n".repeat(NAME_CHARACTERS_MAX)] {
            assert!(name("name", good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", " a", "a ", "a\nb", "a=b", "a\0", &"n".repeat(NAME_CHARACTERS_MAX + 1)] {
            assert!(name("name", bad.to_owned()).is_err(), "{bad:?}");
        }
        let long = |n: usize| command("command", "c".repeat(n));
        assert!(long(COMMAND_CHARACTERS_MAX).is_ok() && long(COMMAND_CHARACTERS_MAX + 1).is_err());
        for bad in [
            "",
            "  ",
            "\n",
            "# no",
            "'",
            "a \"b",
            "a \\",
            "'' a",
            "a\0b",
            "a\u{1b}[1m",
            "a \u{202e}b",
        ] {
            assert!(command("command", bad.to_owned()).is_err(), "{bad:?}");
        }
        assert_eq!(
            split_words("check  'a b' c\\ d \"e f\"").unwrap(),
            ["check", "a b", "c d", "e f"]
        );
        assert_eq!(
            split_words("check $HOME; rm `x` | y").unwrap()[1],
            "$HOME;",
            "no shell reads it"
        );
        assert!(workdir("workdir", "/w".repeat(WORKDIR_CHARACTERS_MAX / 2)).is_ok());
        assert!(workdir("workdir", "w".repeat(WORKDIR_CHARACTERS_MAX + 1)).is_err());
        assert!(timeout("timeout_seconds", TIMEOUT_SECONDS_MAX).is_ok());
        for bad in [0, -1, TIMEOUT_SECONDS_MAX + 1] {
            assert!(timeout("timeout_seconds", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_are_limited_and_their_values_are_never_shown() {
        assert!(environment("_A1", "any\ntext").is_ok());
        assert!(environment(&"n".repeat(VARIABLE_NAME_BYTES_MAX), "").is_ok());
        assert!(environment("A", &"v".repeat(VARIABLE_VALUE_BYTES_MAX)).is_ok());
        for (name, value) in [
            ("", ""),
            ("1A", ""),
            ("A-B", ""),
            ("A=B", ""),
            ("BASH_FUNC_ls%%", ""),
            ("\u{c4}", ""),
            (&*"n".repeat(VARIABLE_NAME_BYTES_MAX + 1), ""),
            ("A", "\0"),
            ("A", &*"v".repeat(VARIABLE_VALUE_BYTES_MAX + 1)),
        ] {
            assert!(environment(name, value).is_err(), "{name}");
        }
        let many = |n: usize, value: &str| {
            Environment::parse("e", (0..n).map(|i| (format!("V{i:03}"), value.to_owned())))
        };
        assert!(many(VARIABLES_MAX, "").is_ok() && many(VARIABLES_MAX + 1, "").is_err());
        let value = "v".repeat(ENVIRONMENT_BYTES_MAX / 16 - 4);
        assert!(many(16, &value).is_ok() && many(17, &value).is_err());
        let secret = environment("TOKEN", "hunter2").unwrap();
        assert_eq!(format!("{secret:?}"), "[\"TOKEN\"]");
        assert_eq!(Environment::from_json(&secret.to_json().unwrap()).unwrap(), secret);
    }

    #[test]
    fn variables_that_affect_execution_are_refused_for_hooks_on_this_host() {
        for name in [
            "PATH",
            "LD_PRELOAD",
            "SG_SANDBOX_NAME",
            "BASH_ENV",
            "ENV",
            "PYTHONPATH",
            "PERL5OPT",
            "GLIBC_TUNABLES",
            "http_proxy",
            "AWS_CONFIG_FILE",
            "TOKEN",
            "hook_token",
            "HOOK",
            "A_HOOK_TOKEN",
        ] {
            let given = environment(name, "x").unwrap();
            assert!(given.check_phase("environment", HookPhase::PreCreate).is_err(), "{name}");
            assert!(
                given.check_phase("environment", HookPhase::PostCreate).is_ok(),
                "inside it is their own"
            );
        }
        let token = environment("HOOK_TOKEN", "x").unwrap();
        assert!(token.check_phase("environment", HookPhase::PreCreate).is_ok());
        let refused = environment("TOKEN", "x").unwrap();
        let refused = refused.check_phase("environment", HookPhase::PreCreate).unwrap_err();
        let why = "must not set `TOKEN` in a pre-create hook: names must begin with `HOOK_`";
        assert!(refused.to_string().contains(why), "{refused}");
    }
}
