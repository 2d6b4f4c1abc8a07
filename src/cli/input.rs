//! Input of a command besides its arguments: files, standard input, secrets and answers to questions.

use std::fs::File;
use std::io::{self, BufRead as _, Read as _};
use std::path::Path;

use rustix::termios::{QueueSelector, tcflush};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::connect::interruptible;
use super::{CliError, output};

/// Maximum size of a file or of standard input, in bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Maximum length of an answer to a question, in bytes. The rest is not read.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;

/// Reads `@FILE` or `-`, standard input. The error says what cannot be read.
pub(super) fn read_source(argument: &str) -> Result<Vec<u8>, String> {
    let file = argument.strip_prefix('@').map(Path::new);
    if file.is_none() && argument != "-" {
        return Err("must be `@FILE`, or `-` for standard input".to_owned());
    }
    read_all(file, argument, BYTES_MAX)
}

/// Reads a file, or standard input for `-`, of at most so many bytes.
pub(super) fn read_document(file: &Path, bytes_max: u64) -> Result<Vec<u8>, CliError> {
    let name = file.display().to_string();
    let file = Some(file).filter(|_| name != "-");
    read_all(file, &name, bytes_max).map_err(CliError::Usage)
}

/// Reads a file, or without one standard input. An error calls it `name`.
fn read_all(file: Option<&Path>, name: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
    let failed = |error| format!("`{name}` cannot be read: {error}");
    let limit = bytes_max + 1;
    let bytes = if let Some(file) = file {
        let mut bytes = Vec::new();
        let file = File::open(file).map_err(failed)?;
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        bytes
    } else {
        output::read_input(limit).map_err(failed)?
    };
    if bytes.len() as u64 > bytes_max {
        return Err(format!("`{name}` has more than {bytes_max} bytes"));
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
    prompt_hidden("Secret: ", failed)
}

/// Shows a question, and reads a secret from the terminal without showing it. `failed` returns the error if that is not
/// possible.
pub(super) fn prompt_hidden(
    question: &str,
    failed: impl FnOnce(&str) -> CliError,
) -> Result<String, CliError> {
    // For Ctrl-C, the library sends SIGINT before it restores the terminal. Without a listener, that would end this
    // process, and leave the terminal without echo.
    let _interrupts =
        Handle::try_current().is_ok().then(|| signal(SignalKind::interrupt())).transpose()?;
    rpassword::prompt_password(question).map_err(|error| {
        if error.kind() == io::ErrorKind::Interrupted {
            return CliError::Interrupted;
        }
        failed(&error.to_string())
    })
}

/// Asks a question, which `show` shows, and returns the answer without spaces at its ends. `None` at the end of the input.
/// What was typed before the question was shown is discarded: it is not an answer.
pub(super) async fn ask(show: impl FnOnce() -> io::Result<()>) -> Result<Option<String>, CliError> {
    tcflush(io::stdin(), QueueSelector::IFlush).map_err(io::Error::from)?;
    show()?;
    let (sender, answer) = oneshot::channel();
    // A read cannot be canceled. The thread ends with the line or with the process.
    std::thread::Builder::new().name("answer".to_owned()).spawn(move || {
        let mut line = String::new();
        let mut input = io::stdin().lock().take(ANSWER_BYTES_MAX);
        let read = input.read_line(&mut line).map(|bytes| (bytes > 0).then_some(line));
        let _ = sender.send(read);
    })?;
    let lost = |_| CliError::Io("the answer could not be read".to_owned());
    let read = interruptible(async { answer.await.map_err(lost) }).await?;
    Ok(read?.map(|line| line.trim().to_owned()))
}

/// Reads on a thread of its own, so that an interruption ends the command meanwhile: a read cannot be canceled. The
/// thread ends with the read or with the process.
pub(super) async fn on_thread<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CliError> {
    // The input of a captured command belongs to its task, and is there already.
    if output::is_captured() {
        return Ok(read());
    }
    let (sender, answer) = oneshot::channel();
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        let _ = sender.send(read());
    })?;
    answer.await.map_err(|_| CliError::Io("the input could not be read".to_owned()))
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
    fn a_document_has_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        std::fs::write(&path, "abcd").unwrap();
        assert_eq!(read_document(&path, 4).unwrap(), b"abcd");
        let why = read_document(&path, 3).unwrap_err();
        assert_eq!(why.exit_code(), 2);
        assert!(why.to_string().ends_with("has more than 3 bytes"), "{why}");
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        let why = read_secret("hunter2").unwrap_err();
        assert!(why.contains("is a secret") && !why.contains("hunter2"), "{why}");
    }
}
