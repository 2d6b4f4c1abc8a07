//! Commands in a sandbox: interactively, and as an operation that stores the output.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::domain::{connect, connect_for_change};
use super::input::STDIN_BYTES_MAX;
use crate::clock::Clock;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::digest::StreamDigest;
use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::exec::{Command, Input, InputStream, Output, OutputStream};
use crate::resources::operations::{
    self, Failure, NewOperation, Operation, OperationKind, RunningOperation,
};
use crate::seal::hex;

/// Bytes of each output that are stored.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Default timeout of a command that runs as an operation.
const TIME_DEFAULT: Duration = Duration::from_mins(10);
/// Time that a gateway may take beyond the timeout of the command.
const GRACE: Duration = Duration::from_secs(10);
/// Characters of a program's name in the audit log.
const PROGRAM_CHARACTERS_MAX: usize = 200;
/// Pause after which input counts as interactive: the command starts, and the rest is streamed to it.
const INPUT_PAUSE: Duration = Duration::from_millis(250);
/// How long the start of a command waits for the end of input that does not pause.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);
/// Most messages of input that are buffered before the command starts.
const INPUT_PIECES_MAX: usize = 1_024;

/// Adds the program to the audit entry, but not its arguments, which may be secret.
fn add_to_audit(ctx: &Ctx, place: &SandboxName, command: &Command) {
    let program = command.argv.first().map(String::as_str).unwrap_or_default();
    let program: String = program.chars().take(PROGRAM_CHARACTERS_MAX).collect();
    ctx.add_audit_detail("workspace", place.workspace.as_str());
    ctx.add_audit_detail("program", program);
    ctx.add_audit_detail("arguments", command.argv.len().saturating_sub(1));
    ctx.add_audit_detail("timeout_seconds", command.timeout.as_secs());
    ctx.add_audit_detail("tty", command.tty);
}

/// Digest of the input of a command, for the audit log. It is added to the audit entry on drop, even if the call fails.
pub struct InputDigest<'a> {
    ctx: &'a Ctx,
    digest: Mutex<Option<StreamDigest>>,
}

impl<'a> InputDigest<'a> {
    /// Starts with no input.
    #[must_use]
    pub fn new(ctx: &'a Ctx) -> Self {
        Self { ctx, digest: Mutex::new(Some(ctx.app().stream_digest())) }
    }

    /// Adds input to the digest.
    pub fn update(&self, bytes: &[u8]) {
        self.ctx.count_bytes(bytes.len(), 0);
        let mut digest = self.digest.lock();
        if let Some(digest) = digest.as_mut() {
            digest.update(bytes);
        }
    }
}

impl Drop for InputDigest<'_> {
    fn drop(&mut self) {
        let digest = self.digest.get_mut().take();
        if let Some(digest) = digest.map(StreamDigest::finish) {
            self.ctx.add_audit_detail("digest", hex(&digest.bytes));
            self.ctx.add_audit_detail("digest_key", &*digest.key_id);
        }
    }
}

/// Input of the caller for its command.
type CallerInput<'a> = Pin<Box<dyn Stream<Item = Result<Input, Error>> + Send + 'a>>;

/// Future that sends the rest of the input. Returns the input stream if it must stay open.
type FeedFuture<'a> = Pin<Box<dyn Future<Output = Result<Option<InputStream>, Error>> + Send + 'a>>;

/// A command that runs while its caller sends input.
pub struct InteractiveExec<'a> {
    outputs: OutputStream,
    input_feed: Option<FeedFuture<'a>>,
    /// Kept until the command has ended: dropping it would abort the command.
    open_input: Option<InputStream>,
}

impl std::fmt::Debug for InteractiveExec<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InteractiveExec")
            .field("open_input", &self.open_input)
            .finish_non_exhaustive()
    }
}

impl InteractiveExec<'_> {
    /// Returns the next piece of output, and sends input meanwhile. `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Output>, Error> {
        while let Some(feeding) = self.input_feed.as_mut() {
            tokio::select! {
                output = self.outputs.next() => return output,
                fed = feeding => {
                    self.open_input = fed?;
                    self.input_feed = None;
                }
            }
        }
        self.outputs.next().await
    }
}

/// Runs a command with streamed input. If the input is complete before the command starts, it is sent together with the
/// command: a gateway of generation 0.0 aborts an interactive command at the end of its input.
pub async fn start_interactive<'a>(
    ctx: &Ctx,
    place: &SandboxName,
    mut command: Command,
    mut typed: CallerInput<'a>,
) -> Result<InteractiveExec<'a>, Error> {
    add_to_audit(ctx, place, &command);
    let (gateway, buffered) = tokio::try_join!(connect(ctx), buffer_input(&mut typed))?;
    ctx.recheck()?;
    if buffered.ended {
        buffered.add_to_command(&mut command);
        let outputs = gateway.exec(place, &command).await?;
        return Ok(InteractiveExec { outputs, input_feed: None, open_input: None });
    }
    let (inputs, outputs) = gateway.exec_interactive(place, &command).await?;
    let feeding: FeedFuture<'a> = Box::pin(send_input(inputs, buffered.pieces, typed));
    Ok(InteractiveExec { outputs, input_feed: Some(feeding), open_input: None })
}

/// Input that arrived before the command starts.
#[derive(Debug, Default)]
struct BufferedInput {
    pieces: Vec<Input>,
    bytes: usize,
    /// Whether the input is complete.
    ended: bool,
}

impl BufferedInput {
    fn push(&mut self, piece: Input) {
        if let Input::Stdin(bytes) = &piece {
            self.bytes += bytes.len();
        }
        self.pieces.push(piece);
    }

    /// Adds the complete input to the command.
    fn add_to_command(self, command: &mut Command) {
        for piece in self.pieces {
            match piece {
                Input::Stdin(bytes) => command.stdin.extend_from_slice(&bytes),
                Input::Resize { cols, rows } => command.size = (cols, rows),
            }
        }
    }
}

/// Collects input until it ends, pauses or exceeds what can be sent together with a command.
async fn buffer_input(typed: &mut CallerInput<'_>) -> Result<BufferedInput, Error> {
    let until = Instant::now() + INPUT_TIME_MAX;
    let mut buffered = BufferedInput::default();
    while buffered.bytes <= STDIN_BYTES_MAX && buffered.pieces.len() < INPUT_PIECES_MAX {
        let pause = until.min(Instant::now() + INPUT_PAUSE);
        let Ok(next) = timeout_at(pause, typed.next()).await else { break };
        let Some(piece) = next else {
            buffered.ended = true;
            break;
        };
        buffered.push(piece?);
    }
    Ok(buffered)
}

/// Sends the input to its end, or until the command no longer reads it.
async fn send_input(
    inputs: InputStream,
    buffered: Vec<Input>,
    mut typed: CallerInput<'_>,
) -> Result<Option<InputStream>, Error> {
    for piece in buffered {
        if !inputs.send(piece).await {
            return Ok(None);
        }
    }
    while let Some(piece) = typed.next().await {
        if !inputs.send(piece?).await {
            return Ok(None);
        }
    }
    Ok(inputs.end().await)
}

/// Runs a command as an operation.
pub async fn start(
    ctx: &Ctx,
    place: &SandboxName,
    mut command: Command,
) -> Result<Operation, Error> {
    add_to_audit(ctx, place, &command);
    if command.timeout.is_zero() {
        command.timeout = TIME_DEFAULT;
    }
    let gateway = connect_for_change(ctx).await?;
    // A missing sandbox is reported at once, and no operation is created.
    gateway.get_sandbox(place).await?;
    let new = NewOperation {
        kind: OperationKind::Exec,
        workspace: &place.workspace,
        sandbox: &place.name,
        exclusive: false,
        key: None,
        keeps_output: true,
        input: None,
    };
    let of = place.clone();
    operations::start(ctx, new, |running| run_command(running, gateway, of, command)).await
}

async fn run_command(
    running: RunningOperation,
    gateway: Gateway,
    place: SandboxName,
    command: Command,
) -> Result<Value, Failure> {
    running.progress(10, "running the command").await?;
    // Dropping the future ends the stream, and the gateway aborts the command.
    let kept = tokio::select! {
        biased;
        () = running.cancel().cancelled() => return Err(Failure::cancelled()),
        kept = collect(&running.ctx().app().clock, &gateway, &place, &command) => kept?,
    };
    running.ctx().add_audit_detail("exit_code", kept.exit_code);
    Ok(json!({
        "exit_code": kept.exit_code,
        "stdout": String::from_utf8_lossy(&kept.stdout),
        "stderr": String::from_utf8_lossy(&kept.stderr),
        "truncated": kept.truncated,
    }))
}

/// Stored outcome of a command.
#[derive(Debug, Default)]
struct CommandOutcome {
    exit_code: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

/// Runs a command to its end and keeps the first bytes of its output.
async fn collect(
    clock: &Clock,
    gateway: &Gateway,
    place: &SandboxName,
    command: &Command,
) -> Result<CommandOutcome, Error> {
    let run = async {
        let mut outputs = gateway.exec(place, command).await?;
        let mut kept = CommandOutcome::default();
        let mut exit = None;
        while let Some(output) = outputs.next().await? {
            match output {
                Output::Stdout(bytes) => kept.truncated |= append_bounded(&mut kept.stdout, &bytes),
                Output::Stderr(bytes) => kept.truncated |= append_bounded(&mut kept.stderr, &bytes),
                Output::Exit(code) => exit = Some(code),
            }
        }
        let silent = || gateway.unreadable("a command that ends without an exit code");
        kept.exit_code = exit.ok_or_else(silent)?;
        Ok(kept)
    };
    let late = || Error::DeadlineExceeded { why: "the command did not end in time".to_owned() };
    clock.timeout(command.timeout + GRACE, Box::pin(run)).await.ok_or_else(late)?
}

/// Appends what fits. Returns whether something was left out.
fn append_bounded(kept: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let room = OUTPUT_BYTES_MAX - kept.len();
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    bytes.len() > room
}
