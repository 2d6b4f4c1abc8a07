//! Reads what proves who the caller is: from a prompt without echo, or from standard input.

use std::io;

use super::super::{CliError, input, output};
use crate::secret::Secret;

/// Maximum length of a password or key, in bytes.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// Asks for a line of text.
pub(super) async fn ask(question: &str, flag: &str) -> Result<String, CliError> {
    if !output::can_ask() {
        return Err(CliError::Usage(format!("`{flag}` is required without a terminal")));
    }
    output::print_question(question);
    let read = || {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    };
    let line = input::on_thread(read).await??;
    Ok(line.trim().to_owned())
}

/// Asks for a secret on the terminal, without showing it. `otherwise` says how it can be given without a terminal.
pub(super) fn prompt(what: &str, otherwise: &str) -> Result<Secret, CliError> {
    let failed = |why: &str| {
        CliError::Usage(format!("no terminal to ask for the {what}: {otherwise} ({why})"))
    };
    let text = input::prompt_hidden(&format!("{what}: "), failed)?;
    not_empty(Secret::new(text), what)
}

/// Reads a secret from standard input, without the last line break.
pub(in crate::cli) fn read(what: &str) -> Result<Secret, CliError> {
    let bytes = output::read_input(SECRET_BYTES_MAX + 1)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(CliError::Usage(format!("the {what} has more than {SECRET_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::Usage(format!("the {what} on standard input is not UTF-8")))?;
    let text = Secret::new(text);
    not_empty(Secret::new(text.expose().trim_end_matches(['\r', '\n'])), what)
}

fn not_empty(secret: Secret, what: &str) -> Result<Secret, CliError> {
    if secret.expose().is_empty() {
        return Err(CliError::Usage(format!("the {what} is empty")));
    }
    Ok(secret)
}
