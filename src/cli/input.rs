//! What a command reads besides its arguments: files, standard input, secrets and answers to questions.

use std::io::{self, Read as _};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, output};

/// Maximum size of a file or of standard input, in bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads `@FILE` or `-`, standard input. The error says what cannot be read.
pub(super) fn read_source(argument: &str) -> Result<Vec<u8>, String> {
    let failed = |error| format!("`{argument}` cannot be read: {error}");
    let bytes = if argument == "-" {
        output::read_input(BYTES_MAX + 1).map_err(failed)?
    } else if let Some(path) = argument.strip_prefix('@') {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        bytes
    } else {
        return Err("must be `@FILE`, or `-` for standard input".to_owned());
    };
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("`{argument}` has more than {BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// Reads a text from `@FILE` or `-`.
pub(super) fn read_text(argument: &str) -> Result<String, String> {
    String::from_utf8(read_source(argument)?).map_err(|_| format!("`{argument}` is not UTF-8"))
}

/// Prompts for a secret, without showing it.
pub(super) fn prompt() -> Result<String, CliError> {
    let failed = |why: &str| CliError::Usage(format!("the secret cannot be prompted for: {why}"));
    if !output::can_ask() {
        return Err(failed("standard input is not a terminal"));
    }
    // For Ctrl-C, the library sends SIGINT before it restores the terminal. Without a listener, that would end this
    // process, and leave the terminal without echo.
    let _interrupts =
        Handle::try_current().is_ok().then(|| signal(SignalKind::interrupt())).transpose()?;
    rpassword::prompt_password("Secret: ").map_err(|error| {
        if error.kind() == io::ErrorKind::Interrupted {
            return CliError::Interrupted;
        }
        failed(&error.to_string())
    })
}

/// Reads a secret from `@FILE` or `-`, without its last line break. A secret that is given itself is refused: other
/// users of the host can see the arguments of a process.
pub(super) fn read_secret(argument: &str) -> Result<String, String> {
    if argument != "-" && !argument.starts_with('@') {
        // The argument may be the secret, so it is not repeated.
        return Err(
            "is a secret, and other users of this host can see arguments: use `@FILE`, `-` for \
                    standard input, or `prompt`"
                .to_owned(),
        );
    }
    let text = read_text(argument)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_an_at_sign() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hunter2\r\n").unwrap();
        let argument = format!("@{}", path.display());
        assert_eq!(read_text(&argument).as_deref(), Ok("hunter2\r\n"));
        assert_eq!(read_secret(&argument).as_deref(), Ok("hunter2"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(read_text(&argument).unwrap_err().ends_with("is not UTF-8"));
        assert!(read_source("@/nonexistent").unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        let why = read_secret("hunter2").unwrap_err();
        assert!(why.contains("is a secret") && !why.contains("hunter2"), "{why}");
    }
}
