//! Commands in a sandbox: as a conversation, and as an operation that keeps the output.

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

/// What of each output is kept.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// How long a command of an operation may run that says nothing else.
const TIME_DEFAULT: Duration = Duration::from_mins(10);
/// How much longer than the command the gateway may take.
const GRACE: Duration = Duration::from_secs(10);
/// Characters of a program's name that the audit log keeps.
const PROGRAM_CHARACTERS_MAX: usize = 200;
/// How long a caller pauses before its input counts as one that goes on while the command runs.
const INPUT_PAUSE: Duration = Duration::from_millis(250);
/// How long the start of a command waits for an input without pauses.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);
/// Pieces of an input that are held before the command starts.
const INPUT_PIECES_MAX: usize = 1_024;

/// For the audit log: which program, not with which arguments, which may be secret. The digest is of all.
fn note(ctx: &Ctx, place: &SandboxName, command: &Command) {
    let program = command.argv.first().map(String::as_str).unwrap_or_default();
    let program: String = program.chars().take(PROGRAM_CHARACTERS_MAX).collect();
    ctx.detail("workspace", place.workspace.as_str());
    ctx.detail("program", program);
    ctx.detail("arguments", command.argv.len().saturating_sub(1));
    ctx.detail("timeout_seconds", command.timeout.as_secs());
    ctx.detail("tty", command.tty);
}

/// The digest of what a command is given to read, for the audit log: noted when this is dropped, however that ends.
pub struct Heard<'a> {
    ctx: &'a Ctx,
    digest: Mutex<Option<Streamed>>,
}

impl<'a> Heard<'a> {
    /// Of nothing yet.
    #[must_use]
    pub fn by(ctx: &'a Ctx) -> Self {
        Self { ctx, digest: Mutex::new(Some(ctx.app().streamed_digest())) }
    }

    /// It was given more.
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

/// What a caller sends to its command.
type Typed<'a> = Pin<Box<dyn Stream<Item = Result<Input, Error>> + Send + 'a>>;

/// What goes on sending it: answers the way in where that must stay open.
type Feeding<'a> = Pin<Box<dyn Future<Output = Result<Option<Inputs>, Error>> + Send + 'a>>;

/// A command that runs while its caller types.
pub struct Talk<'a> {
    outputs: Outputs,
    feeding: Option<Feeding<'a>>,
    /// Held until the command has ended, since dropping it would abort the command.
    held: Option<Inputs>,
}

impl std::fmt::Debug for Talk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Talk").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Talk<'_> {
    /// The next piece of output; none at the end. Sends input meanwhile.
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

/// Runs a command whose input comes as it goes. An input that ends before the command starts goes along with the
/// command: a gateway of generation 0.0 aborts an interactive one at the end of its input.
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

/// What a caller has sent before its command starts.
#[derive(Debug, Default)]
struct Begun {
    pieces: Vec<Input>,
    bytes: usize,
    /// Whether this is all.
    ended: bool,
}

impl Begun {
    fn push(&mut self, piece: Input) {
        if let Input::Stdin(bytes) = &piece {
            self.bytes += bytes.len();
        }
        self.pieces.push(piece);
    }

    /// Puts all of it into the command.
    fn complete(self, command: &mut Command) {
        for piece in self.pieces {
            match piece {
                Input::Stdin(bytes) => command.stdin.extend_from_slice(&bytes),
                Input::Resize { cols, rows } => command.size = (cols, rows),
            }
        }
    }
}

/// Waits for the end of an input that does not pause, as far as it may be sent along with a command.
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

/// Sends an input to its end, or until nobody reads it any more.
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
    // What is not there is told at once, and no operation is left behind.
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
    // Dropping it ends the stream, and with it the command.
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

/// What a command has left behind.
#[derive(Debug, Default)]
struct Kept {
    exit_code: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

/// Runs a command to its end, and keeps the beginning of what it writes.
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

/// Keeps what there is room for; answers whether something was left out.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let room = KEPT_BYTES_MAX - kept.len();
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    bytes.len() > room
}
