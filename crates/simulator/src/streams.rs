//! Streams of both generations: running commands, watched sandboxes, returned bytes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::shell::{CommandSpec, Step};
use super::state::{Core, LogFilter, LogLine, Notice, Phase, PlatformEvent, Sandbox};

/// The exit code of a command that timed out.
const TIMED_OUT: i32 = 124;

/// Maximum length of an incomplete line that an interactive command buffers.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A port in every sandbox that accepts connections and never reads from them.
pub const STALLED_PORT: u32 = 9;

/// Startup time of an interactive command: by then, an input that ends with the call has ended.
const STARTS_AFTER: Duration = Duration::from_millis(50);

/// The character that ends the input of a terminal.
const END_OF_INPUT: u8 = 4;

/// The status message for an aborted command.
const ABORTED: &str = "the command was closed before it had an exit status";

/// The input of a caller.
type InputStream = Pin<Box<dyn Stream<Item = Result<CommandInput, Status>> + Send>>;

/// A response stream.
pub(super) type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Output of a command.
#[derive(Debug)]
pub(super) enum CommandOutput {
    /// Output to stdout.
    Out(Bytes),
    /// Output to stderr.
    Err(Bytes),
    /// The exit code.
    Exit(i32),
}

/// Input of an interactive command.
#[derive(Debug)]
pub(super) enum CommandInput {
    /// Bytes.
    Data(Bytes),
    /// A new size of the terminal, in columns and rows.
    Size(u32, u32),
}

/// The effect on an interactive command when the caller's input ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HalfClose {
    /// Aborts the command, as in generation 0.0.
    Aborts,
    /// The command reads the end of its input.
    IsRead,
}

/// An item for a watcher.
#[derive(Debug)]
pub(super) enum WatchItem {
    /// The current sandbox.
    Sandbox(Box<Sandbox>),
    /// A new log line.
    Log(LogLine),
    /// A platform event.
    Event(PlatformEvent),
    /// Notices were missed.
    Warning(String),
}

/// Options of a watcher.
#[derive(Debug, Default)]
pub(super) struct WatchOptions {
    /// Send every change of the sandbox.
    pub(super) status: bool,
    /// Send log lines that match this filter.
    pub(super) logs: Option<LogFilter>,
    /// Send platform events.
    pub(super) events: bool,
    /// Number of older log lines to send first.
    pub(super) log_tail: u32,
    /// Number of older events to send first.
    pub(super) event_tail: u32,
    /// End when the sandbox reaches a stable phase.
    pub(super) stop_on_terminal: bool,
}

/// Ends a stream with a status when the simulator stops.
pub(super) fn until_stopped<T: Send + 'static>(
    stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    stop: &CancellationToken,
) -> ResponseStream<T> {
    let state = Some((Box::pin(stream), stop.clone()));
    Box::pin(stream::unfold(state, async |state| {
        let (mut stream, stop) = state?;
        tokio::select! {
            item = stream.next() => item.map(|item| (item, Some((stream, stop)))),
            () = stop.cancelled() => {
                Some((Err(Status::unavailable("the gateway is stopping")), None))
            }
        }
    }))
}

/// Forwards to a target that never reads. The request body stays unread until the simulator stops, even after its
/// stream was reset: the bytes received stay charged to the window of the connection.
pub(super) fn leave_unread<T: Send + 'static, A: Send + 'static>(
    core: &Core,
    request: Streaming<T>,
) -> ResponseStream<A> {
    let stop = core.stop.clone();
    core.tasks.spawn(async move {
        stop.cancelled().await;
        drop(request);
    });
    until_stopped(stream::pending(), &core.stop)
}

/// Plays the output of a command. `None` means no timeout.
pub(super) fn exec(
    start: &CommandSpec,
    timeout: Option<Duration>,
) -> impl Stream<Item = Result<CommandOutput, Status>> + Send + use<> {
    play_steps(start, timeout, Duration::ZERO)
}

fn play_steps(
    start: &CommandSpec,
    timeout: Option<Duration>,
    after: Duration,
) -> impl Stream<Item = Result<CommandOutput, Status>> + Send + use<> {
    let run = start.run();
    let end = timeout.map(|timeout| Instant::now() + timeout);
    let mut steps = VecDeque::from(run.steps);
    if !after.is_zero() {
        steps.push_front(Step::Pause(after));
    }
    let state = Some((steps, run.code, end));
    stream::unfold(state, async |state| {
        let (mut steps, code, end) = state?;
        loop {
            let output = match steps.pop_front() {
                Some(Step::Out(data)) => CommandOutput::Out(data),
                Some(Step::Err(data)) => CommandOutput::Err(data),
                Some(Step::Repeat(data)) => {
                    steps.push_front(Step::Repeat(data.clone()));
                    CommandOutput::Out(data)
                }
                Some(Step::Pause(time)) => {
                    let over = Instant::now() + time;
                    if let Some(end) = end.filter(|end| *end < over) {
                        sleep_until(end).await;
                        return Some((Ok(CommandOutput::Exit(TIMED_OUT)), None));
                    }
                    sleep_until(over).await;
                    continue;
                }
                None => return Some((Ok(CommandOutput::Exit(code)), None)),
            };
            return Some((Ok(output), Some((steps, code, end))));
        }
    })
}

/// Plays an interactive command: `cat`, or a shell without a script, echoes its input, and on a terminal also each new
/// size.
pub(super) fn exec_interactive(
    start: &CommandSpec,
    timeout: Option<Duration>,
    input: impl Stream<Item = Result<CommandInput, Status>> + Send + 'static,
    half_close: HalfClose,
) -> ResponseStream<CommandOutput> {
    let words: Vec<&str> = start.command.iter().map(String::as_str).collect();
    let input: InputStream = match half_close {
        HalfClose::IsRead => Box::pin(input),
        HalfClose::Aborts => {
            Box::pin(input.chain(stream::iter([Err(Status::new(Code::Internal, ABORTED))])))
        }
    };
    match (words.as_slice(), half_close) {
        (["cat" | "sh" | "bash" | "/bin/sh" | "/bin/bash"], _) => {
            Box::pin(echo_input(input, start.terminal.is_some()))
        }
        ([..], HalfClose::IsRead) => Box::pin(exec(start, timeout)),
        ([..], HalfClose::Aborts) => {
            Box::pin(until_input_fails(Box::pin(play_steps(start, timeout, STARTS_AFTER)), input))
        }
    }
}

/// Plays a command that does not read, until its input fails.
fn until_input_fails(
    run: ResponseStream<CommandOutput>,
    input: InputStream,
) -> impl Stream<Item = Result<CommandOutput, Status>> + Send {
    stream::unfold(Some((run, input)), async |state| {
        let (mut run, mut input) = state?;
        loop {
            tokio::select! {
                biased;
                typed = input.next() => {
                    if let Some(Err(status)) = typed {
                        return Some((Err(status), None));
                    }
                }
                output = run.next() => return output.map(|output| (output, Some((run, input)))),
            }
        }
    })
}

/// Echoes the lines of an input, and exits when it ends.
fn echo_input(
    input: InputStream,
    on_terminal: bool,
) -> impl Stream<Item = Result<CommandOutput, Status>> + Send {
    let state = Some((input, BytesMut::new(), on_terminal));
    stream::unfold(state, async |state| {
        let (mut input, mut line, on_terminal) = state?;
        loop {
            let full = line.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let full = full.or((line.len() >= LINE_BYTES_MAX).then_some(line.len()));
            if let Some(size) = full {
                let data = line.split_to(size).freeze();
                return Some((Ok(CommandOutput::Out(data)), Some((input, line, on_terminal))));
            }
            match input.next().await {
                Some(Ok(CommandInput::Data(data))) => {
                    let end = data.iter().position(|byte| on_terminal && *byte == END_OF_INPUT);
                    line.extend_from_slice(&data[..end.unwrap_or(data.len())]);
                    if end.is_some() {
                        input = Box::pin(stream::empty());
                    }
                }
                Some(Ok(CommandInput::Size(cols, rows))) if on_terminal => {
                    line.extend_from_slice(format!("{cols}x{rows}\n").as_bytes());
                }
                Some(Ok(CommandInput::Size(..))) => {}
                Some(Err(status)) => return Some((Err(status), None)),
                None if line.is_empty() => return Some((Ok(CommandOutput::Exit(0)), None)),
                None => {
                    let rest = line.split().freeze();
                    return Some((Ok(CommandOutput::Out(rest)), Some((input, line, on_terminal))));
                }
            }
        }
    })
}

/// Watches a sandbox: its current state, older log lines and events, and then changes.
pub(super) fn watch(
    core: &Arc<Core>,
    place: &super::state::ObjectKey,
    options: WatchOptions,
) -> Result<impl Stream<Item = Result<WatchItem, Status>> + Send + use<>, Status> {
    // Subscribed first: events in between are sent twice rather than never.
    let notices = core.subscribe();
    let sandbox = core.with(|state| state.sandbox(place).cloned())?;
    let mut queue = VecDeque::new();
    if let Some(filter) = &options.logs {
        let lines =
            if options.log_tail == 0 { Vec::new() } else { sandbox.tail(filter, options.log_tail) };
        queue.extend(lines.into_iter().map(WatchItem::Log));
    }
    if options.events {
        let tail = usize::try_from(options.event_tail).unwrap_or(usize::MAX);
        let older = sandbox.events.len().saturating_sub(tail);
        queue.extend(sandbox.events.iter().skip(older).cloned().map(WatchItem::Event));
    }
    let mut watcher = Watcher {
        core: Arc::clone(core),
        place: sandbox.key(),
        id: sandbox.meta.id.clone(),
        is_finished: options.stop_on_terminal && is_stable(sandbox.phase),
        options,
        notices,
        queue,
    };
    watcher.queue.push_front(WatchItem::Sandbox(Box::new(sandbox)));
    Ok(stream::unfold(watcher, async |mut watcher| {
        let next = watcher.next().await?;
        Some((Ok(next), watcher))
    }))
}

struct Watcher {
    core: Arc<Core>,
    place: super::state::ObjectKey,
    id: String,
    options: WatchOptions,
    notices: Receiver<Notice>,
    queue: VecDeque<WatchItem>,
    is_finished: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<WatchItem> {
        loop {
            if let Some(next) = self.queue.pop_front() {
                return Some(next);
            }
            if self.is_finished {
                return None;
            }
            match self.notices.recv().await {
                Ok(notice) => self.handle_notice(notice),
                Err(RecvError::Lagged(missed)) => {
                    self.queue
                        .push_back(WatchItem::Warning(format!("{missed} events were missed")));
                    self.queue_sandbox();
                }
                Err(RecvError::Closed) => self.is_finished = true,
            }
        }
    }

    fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Changed(id) if id == self.id => self.queue_sandbox(),
            Notice::Deleted(id) if id == self.id => self.is_finished = true,
            Notice::Log(id, line) if id == self.id => {
                if self.options.logs.as_ref().is_some_and(|filter| filter.matches(&line)) {
                    self.queue.push_back(WatchItem::Log(line));
                }
            }
            Notice::Event(id, event) if id == self.id && self.options.events => {
                self.queue.push_back(WatchItem::Event(event));
            }
            Notice::Changed(_) | Notice::Deleted(_) | Notice::Log(..) | Notice::Event(..) => {}
        }
    }

    /// Queues the current sandbox.
    fn queue_sandbox(&mut self) {
        let found = self.core.with(|state| state.sandbox(&self.place).cloned());
        let Some(sandbox) = found.ok().filter(|sandbox| sandbox.meta.id == self.id) else {
            self.is_finished = true;
            return;
        };
        self.is_finished = self.options.stop_on_terminal && is_stable(sandbox.phase);
        if self.options.status || self.is_finished {
            self.queue.push_back(WatchItem::Sandbox(Box::new(sandbox)));
        }
    }
}

/// Whether a phase lasts until a caller changes it.
fn is_stable(phase: Phase) -> bool {
    matches!(phase, Phase::Ready | Phase::Error | Phase::Stopped | Phase::Completed)
}
