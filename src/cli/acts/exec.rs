//! `shoreguard sandbox exec`: a command in a sandbox, with the input, the terminal and the signals of the user.
//!
//! Invariants
//! - exits as the command did, and with 125 if it could not be run;
//! - until the server has answered, and after the input has ended, an interruption ends this process; then it is a key
//!   of the command, if that has a terminal;
//! - the command gets input only if `-i` is given, and input that is closed or empty ends at once;
//! - bytes of the command are not escaped: they are the user's own session.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use futures_util::future::BoxFuture;
use futures_util::{Stream, stream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::super::connect::{Client, interruptible};
use super::super::globals::Globals;
use super::super::{CliError, output, streams, usage};
use super::place::SandboxPlace;
use super::raw_mode::{RawMode, terminal_size};
use crate::pb::v1::ExecSandboxRequest;
use crate::pb::v1::exec_sandbox_request::Input;
use crate::pb::v1::exec_sandbox_response::Output;
use crate::pb::v1::sandbox_service_client::SandboxServiceClient;

/// Exit code if the command could not be run.
const COULD_NOT_RUN: u8 = 125;
/// Exit codes of signals, as a shell reports them.
const HANGUP: u8 = 129;
const INTERRUPT: u8 = 130;
const QUIT: u8 = 131;
const CLOSED_PIPE: u8 = 141;
const TERMINATE: u8 = 143;
/// The keys that send SIGINT and SIGQUIT on a terminal.
const INTERRUPT_KEY: &[u8] = b"\x03";
const QUIT_KEY: &[u8] = b"\x1c";
/// How long the end of the stream is waited for after the exit code.
const END_TIME_MAX: Duration = Duration::from_secs(1);
/// Maximum size of a piece of input, in bytes.
const PIECE_BYTES_MAX: usize = 32 * 1024;
/// Maximum size of the input of a captured command, in bytes.
const CAPTURED_BYTES_MAX: u64 = 1024 * 1024;
/// Pieces of input that wait to be sent.
const PIECES_MAX: usize = 8;

/// The command, and what it gets.
#[derive(Debug, Args)]
struct ExecArgs {
    /// The sandbox.
    #[arg(value_name = "GATEWAY/[WORKSPACE/]SANDBOX")]
    place: SandboxPlace,
    /// Sends standard input to the command. Without it, the command reads the end of its input at once.
    #[arg(short, long)]
    interactive: bool,
    /// Gives the command a terminal. With `-i`, every key is sent to it, and a new size of the window.
    #[arg(short, long)]
    tty: bool,
    /// Working directory of the command.
    #[arg(short, long, value_name = "FOLDER", default_value = "", hide_default_value = true)]
    workdir: String,
    /// Gives the command a variable of this process. Can be repeated.
    #[arg(short, long, value_name = "NAME")]
    env: Vec<String>,
    /// Ends the command after this time, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    end_after: Option<u32>,
    /// The program and its arguments, as one word each.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    words: Vec<String>,
}

impl ExecArgs {
    fn first_message(self) -> Result<ExecSandboxRequest, CliError> {
        let mut environment = HashMap::new();
        for name in self.env {
            if name.contains('=') {
                // The value may be secret, so it is not repeated.
                let why = "`--env` takes a name only: the value is that of this process";
                return Err(CliError::Usage(why.to_owned()));
            }
            let value = std::env::var_os(&name).and_then(|value| value.into_string().ok());
            let value = value.ok_or_else(|| {
                CliError::Usage(format!("`{name}` is not a variable of this process"))
            })?;
            environment.insert(name, value);
        }
        let SandboxPlace { gateway, workspace, sandbox } = self.place;
        Ok(ExecSandboxRequest {
            gateway,
            workspace,
            sandbox,
            command: self.words,
            workdir: self.workdir,
            environment,
            timeout: self
                .end_after
                .map(|seconds| prost_types::Duration { seconds: i64::from(seconds), nanos: 0 }),
            tty: self.tty,
            size: terminal_size().filter(|_| self.tty),
            input: None,
        })
    }
}

/// Returns the definition.
pub(in crate::cli) fn command() -> Command {
    ExecArgs::augment_args(Command::new("exec"))
        .about("Runs a command in a sandbox, and exits as it did; with 125 if it could not be run")
}

/// Runs the command.
pub(in crate::cli) fn run(
    matches: ArgMatches,
    globals: Globals,
) -> BoxFuture<'static, Result<(), CliError>> {
    Box::pin(async move {
        let args = ExecArgs::from_arg_matches(&matches).map_err(|error| usage(&error))?;
        match execute(args, &globals).await {
            Ok(0) => Ok(()),
            Ok(code) => Err(CliError::Exit(code, String::new())),
            Err(CliError::Interrupted) => Err(CliError::Interrupted),
            Err(error) => Err(CliError::Exit(COULD_NOT_RUN, error.to_string())),
        }
    })
}

async fn execute(args: ExecArgs, globals: &Globals) -> Result<u8, CliError> {
    let (is_interactive, on_terminal) = (args.interactive, args.interactive && args.tty);
    let first = args.first_message()?;
    let client = interruptible(Client::connect_renewed(&globals.connect)).await?;
    let mut signals = Signals::listen()?;
    let (typed, pieces) = mpsc::channel(PIECES_MAX);
    let (control, controls) = mpsc::channel(PIECES_MAX);
    let is_raw = on_terminal && io::stdin().is_terminal();
    let mut keys = None;
    if is_raw {
        keys = Some(typed);
    } else if is_interactive {
        read_input(typed)?;
    } else {
        drop(typed);
    }
    let requests = Requests { first: Some(first), pieces, controls }.into_stream();
    let is_answered = AtomicBool::new(false);
    // The server ends the call at the same time, if it can be reached then.
    let talk = talk(&client, requests, keys, &is_answered);
    let talk = streams::within(globals.connect.timeout(), Box::pin(talk));
    tokio::select! {
        done = talk => {
            done.map_err(|error| explain(&client, error))
        }
        code = signals.pass_on(&control, on_terminal, &is_answered) => Ok(code),
    }
}

/// Sends the requests, and writes what the command writes. Returns its exit code. When the server has answered, a
/// terminal that is to be raw becomes so, and its keys are sent to `keys`.
async fn talk(
    client: &Client,
    requests: impl Stream<Item = ExecSandboxRequest> + Send + 'static,
    keys: Option<mpsc::Sender<Bytes>>,
    is_answered: &AtomicBool,
) -> Result<u8, CliError> {
    let mut sandboxes = SandboxServiceClient::new(client.channel());
    let mut answers = sandboxes.exec_sandbox(client.stream_request(requests)).await?.into_inner();
    is_answered.store(true, Ordering::Relaxed);
    let _raw_mode = match keys {
        Some(keys) => {
            let raw_mode = RawMode::start()?;
            read_input(keys)?;
            Some(raw_mode)
        }
        None => None,
    };
    while let Some(answer) = answers.message().await? {
        let is_open = match answer.output {
            Some(Output::Stdout(bytes)) => write(bytes, write_out).await?,
            Some(Output::Stderr(bytes)) => write(bytes, write_err).await?,
            Some(Output::ExitCode(number)) => {
                // Reads the end of the stream, so that the server records the call as completed.
                let _ = tokio::time::timeout(END_TIME_MAX, answers.message()).await;
                return Ok(exit_code(number));
            }
            None => true,
        };
        if !is_open {
            return Ok(CLOSED_PIPE);
        }
    }
    Err(CliError::Io("the command ended without an exit code".to_owned()))
}

/// Says what to do about a lost connection.
fn explain(client: &Client, error: CliError) -> CliError {
    if let CliError::Call(status) = error { client.failure(*status) } else { error }
}

/// Returns the exit code of this process. A number that does not fit is not a success.
fn exit_code(number: i32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Writes on a thread that may block, so that signals are handled meanwhile. Returns whether the reader is still there.
async fn write(
    bytes: Bytes,
    to: impl FnOnce(&[u8]) -> io::Result<()> + Send + 'static,
) -> Result<bool, CliError> {
    let written = if output::is_captured() {
        to(&bytes)
    } else {
        tokio::task::spawn_blocking(move || to(&bytes)).await.map_err(io::Error::other)?
    };
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write_out(bytes: &[u8]) -> io::Result<()> {
    if output::print_bytes(bytes)?.is_break() {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

fn write_err(bytes: &[u8]) -> io::Result<()> {
    if output::is_captured() {
        output::print_error(String::from_utf8_lossy(bytes).trim_end());
        return Ok(());
    }
    let mut stderr = io::stderr().lock();
    stderr.write_all(bytes)?;
    stderr.flush()
}

/// Reads standard input to its end. A read cannot be canceled: the thread ends with the input or with the process.
fn read_input(typed: mpsc::Sender<Bytes>) -> io::Result<()> {
    if output::is_captured() {
        let input = output::read_input(CAPTURED_BYTES_MAX)?;
        return typed.try_send(input.into()).map_err(io::Error::other);
    }
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut piece = vec![0; PIECE_BYTES_MAX];
        loop {
            let length = match stdin.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            if typed.blocking_send(Bytes::copy_from_slice(&piece[..length])).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}

/// Messages to send: the command, then its input until that ends.
struct Requests {
    first: Option<ExecSandboxRequest>,
    pieces: mpsc::Receiver<Bytes>,
    controls: mpsc::Receiver<Input>,
}

impl Requests {
    async fn next(&mut self) -> Option<ExecSandboxRequest> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let input = tokio::select! {
            biased;
            Some(control) = self.controls.recv() => control,
            piece = self.pieces.recv() => Input::Stdin(piece?),
        };
        Some(ExecSandboxRequest { input: Some(input), ..Default::default() })
    }

    fn into_stream(self) -> impl Stream<Item = ExecSandboxRequest> + Send + 'static {
        stream::unfold(self, |mut requests| async move {
            let request = requests.next().await?;
            Some((request, requests))
        })
    }
}

/// The signals of this process.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hangup: Signal,
    resize: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// Sends signals to the terminal of the command, once the server has answered. A signal that cannot be sent ends the
    /// command: its exit code is returned.
    async fn pass_on(
        &mut self,
        control: &mpsc::Sender<Input>,
        on_terminal: bool,
        is_answered: &AtomicBool,
    ) -> u8 {
        let is_key = || on_terminal && is_answered.load(Ordering::Relaxed) && !control.is_closed();
        loop {
            let input = tokio::select! {
                _ = self.terminate.recv() => return TERMINATE,
                _ = self.hangup.recv() => return HANGUP,
                _ = self.interrupt.recv() => {
                    if !is_key() {
                        return INTERRUPT;
                    }
                    Input::Stdin(Bytes::from_static(INTERRUPT_KEY))
                }
                _ = self.quit.recv() => {
                    if !is_key() {
                        return QUIT;
                    }
                    Input::Stdin(Bytes::from_static(QUIT_KEY))
                }
                _ = self.resize.recv() => {
                    let Some(size) = terminal_size().filter(|_| on_terminal) else { continue };
                    Input::Resize(size)
                }
            };
            // Of the keys for a command that reads nothing, the first ones are sent.
            let _ = control.try_send(input);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_that_does_not_fit_is_not_a_success() {
        assert_eq!([0, 3, 255, 256, -1].map(exit_code), [0, 3, 255, 255, 255]);
    }

    #[tokio::test]
    async fn input_follows_the_command_and_ends_the_requests() {
        let ((typed, pieces), (control, controls)) = (mpsc::channel(4), mpsc::channel(4));
        let first = ExecSandboxRequest { sandbox: "box".to_owned(), ..Default::default() };
        let mut requests = Requests { first: Some(first.clone()), pieces, controls };
        assert_eq!(requests.next().await, Some(first));
        typed.send(Bytes::from_static(b"hi")).await.unwrap();
        let sent = requests.next().await.unwrap();
        assert_eq!(sent.input, Some(Input::Stdin(Bytes::from_static(b"hi"))));
        control.send(Input::Stdin(Bytes::from_static(QUIT_KEY))).await.unwrap();
        drop(typed);
        assert!(requests.next().await.unwrap().input.is_some());
        assert_eq!(requests.next().await, None);
    }
}
