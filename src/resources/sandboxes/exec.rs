//! Commands in a sandbox: interactively, and as an operation that stores the output.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::domain::{reach, reach_to_act};
use super::input::STDIN_BYTES_MAX;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::digest::Streamed;
use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::exec::{Command, Input, Inputs, Output, Outputs};
use crate::resources::operations::{self, Failure, New, Operation, OperationKind, Running};
use crate::seal::hex;

/// Bytes of each output that are stored.
const KEPT_BYTES_MAX: usize = 64 << 10;
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
fn note(ctx: &Ctx, place: &SandboxName, command: &Command) {
    let program = command.argv.first().map(String::as_str).unwrap_or_default();
    let program: String = program.chars().take(PROGRAM_CHARACTERS_MAX).collect();
    ctx.detail("workspace", place.workspace.as_str());
    ctx.detail("program", program);
    ctx.detail("arguments", command.argv.len().saturating_sub(1));
    ctx.detail("timeout_seconds", command.timeout.as_secs());
    ctx.detail("tty", command.tty);
}

/// Digest of the input of a command, for the audit log. It is added to the audit entry on drop, even if the call fails.
pub struct Heard<'a> {
    ctx: &'a Ctx,
    digest: Mutex<Option<Streamed>>,
}

impl<'a> Heard<'a> {
    /// Starts with no input.
    #[must_use]
    pub fn by(ctx: &'a Ctx) -> Self {
        Self { ctx, digest: Mutex::new(Some(ctx.app().streamed_digest())) }
    }

    /// Adds input to the digest.
    pub fn more(&self, bytes: &[u8]) {
        self.ctx.passed(bytes.len(), 0);
        let mut digest = self.digest.lock();
        if let Some(digest) = digest.as_mut() {
            digest.update(bytes);
        }
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        let digest = self.digest.get_mut().take();
        if let Some(digest) = digest.map(Streamed::finish) {
            self.ctx.detail("digest", hex(&digest.bytes));
            self.ctx.detail("digest_key", &*digest.key_id);
        }
    }
}

/// Input of the caller for its command.
type Typed<'a> = Pin<Box<dyn Stream<Item = Result<Input, Error>> + Send + 'a>>;

/// Future that sends the rest of the input. Returns the input stream if it must stay open.
type Feeding<'a> = Pin<Box<dyn Future<Output = Result<Option<Inputs>, Error>> + Send + 'a>>;

/// A command that runs while its caller sends input.
pub struct Talk<'a> {
    outputs: Outputs,
    feeding: Option<Feeding<'a>>,
    /// Kept until the command has ended: dropping it would abort the command.
    held: Option<Inputs>,
}

impl std::fmt::Debug for Talk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Talk").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Talk<'_> {
    /// Returns the next piece of output, and sends input meanwhile. `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Output>, Error> {
        while let Some(feeding) = self.feeding.as_mut() {
            tokio::select! {
                output = self.outputs.next() => return output,
                fed = feeding => {
                    self.held = fed?;
                    self.feeding = None;
                }
            }
        }
        self.outputs.next().await
    }
}

/// Runs a command with streamed input. If the input is complete before the command starts, it is sent together with the
/// command: a gateway of generation 0.0 aborts an interactive command at the end of its input.
pub async fn talk<'a>(
    ctx: &Ctx,
    place: &SandboxName,
    mut command: Command,
    mut typed: Typed<'a>,
) -> Result<Talk<'a>, Error> {
    note(ctx, place, &command);
    let (gateway, begun) = tokio::try_join!(reach(ctx), gather(&mut typed))?;
    ctx.recheck()?;
    if begun.ended {
        begun.complete(&mut command);
        let outputs = gateway.exec(place, &command).await?;
        return Ok(Talk { outputs, feeding: None, held: None });
    }
    let (inputs, outputs) = gateway.exec_interactive(place, &command).await?;
    let feeding: Feeding<'a> = Box::pin(feed(inputs, begun.pieces, typed));
    Ok(Talk { outputs, feeding: Some(feeding), held: None })
}

/// Input that arrived before the command starts.
#[derive(Debug, Default)]
struct Begun {
    pieces: Vec<Input>,
    bytes: usize,
    /// Whether the input is complete.
    ended: bool,
}

impl Begun {
    fn push(&mut self, piece: Input) {
        if let Input::Stdin(bytes) = &piece {
            self.bytes += bytes.len();
        }
        self.pieces.push(piece);
    }

    /// Adds the complete input to the command.
    fn complete(self, command: &mut Command) {
        for piece in self.pieces {
            match piece {
                Input::Stdin(bytes) => command.stdin.extend_from_slice(&bytes),
                Input::Resize { cols, rows } => command.size = (cols, rows),
            }
        }
    }
}

/// Collects input until it ends, pauses or exceeds what can be sent together with a command.
async fn gather(typed: &mut Typed<'_>) -> Result<Begun, Error> {
    let until = Instant::now() + INPUT_TIME_MAX;
    let mut begun = Begun::default();
    while begun.bytes <= STDIN_BYTES_MAX && begun.pieces.len() < INPUT_PIECES_MAX {
        let pause = until.min(Instant::now() + INPUT_PAUSE);
        let Ok(next) = timeout_at(pause, typed.next()).await else { break };
        let Some(piece) = next else {
            begun.ended = true;
            break;
        };
        begun.push(piece?);
    }
    Ok(begun)
}

/// Sends the input to its end, or until the command no longer reads it.
async fn feed(
    inputs: Inputs,
    begun: Vec<Input>,
    mut typed: Typed<'_>,
) -> Result<Option<Inputs>, Error> {
    for piece in begun {
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
    note(ctx, place, &command);
    if command.timeout.is_zero() {
        command.timeout = TIME_DEFAULT;
    }
    let gateway = reach_to_act(ctx).await?;
    // A missing sandbox is reported at once, and no operation is created.
    gateway.get_sandbox(place).await?;
    let new = New {
        kind: OperationKind::Exec,
        workspace: &place.workspace,
        sandbox: &place.name,
        exclusive: false,
        keeps_output: true,
        input: None,
    };
    let of = place.clone();
    operations::start(ctx, new, |running| run(running, gateway, of, command)).await
}

async fn run(
    running: Running,
    gateway: Gateway,
    place: SandboxName,
    command: Command,
) -> Result<Value, Failure> {
    running.progress(10, "running the command").await?;
    // Dropping the future ends the stream, and the gateway aborts the command.
    let kept = tokio::select! {
        biased;
        () = running.cancel().cancelled() => return Err(Failure::cancelled()),
        kept = collect(&gateway, &place, &command) => kept?,
    };
    running.ctx().detail("exit_code", kept.exit_code);
    Ok(json!({
        "exit_code": kept.exit_code,
        "stdout": String::from_utf8_lossy(&kept.stdout),
        "stderr": String::from_utf8_lossy(&kept.stderr),
        "truncated": kept.truncated,
    }))
}

/// Stored outcome of a command.
#[derive(Debug, Default)]
struct Kept {
    exit_code: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

/// Runs a command to its end and keeps the first bytes of its output.
async fn collect(gateway: &Gateway, place: &SandboxName, command: &Command) -> Result<Kept, Error> {
    let run = async {
        let mut outputs = gateway.exec(place, command).await?;
        let mut kept = Kept::default();
        let mut exit = None;
        while let Some(output) = outputs.next().await? {
            match output {
                Output::Stdout(bytes) => kept.truncated |= keep(&mut kept.stdout, &bytes),
                Output::Stderr(bytes) => kept.truncated |= keep(&mut kept.stderr, &bytes),
                Output::Exit(code) => exit = Some(code),
            }
        }
        let silent = || gateway.unreadable("a command that ends without an exit code");
        kept.exit_code = exit.ok_or_else(silent)?;
        Ok(kept)
    };
    let late = |_| Error::Late { why: "the command did not end in time".to_owned() };
    timeout(command.timeout + GRACE, run).await.map_err(late)?
}

/// Appends what fits. Returns whether something was left out.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let room = KEPT_BYTES_MAX - kept.len();
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    bytes.len() > room
}
