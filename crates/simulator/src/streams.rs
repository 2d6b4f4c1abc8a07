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

use super::shell::{Start, Step};
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
type Typing = Pin<Box<dyn Stream<Item = Result<Typed, Status>> + Send>>;

/// A response stream.
pub(super) type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Output of a command.
#[derive(Debug)]
pub(super) enum Output {
    /// Output to stdout.
    Out(Bytes),
    /// Output to stderr.
    Err(Bytes),
    /// The exit code.
    Exit(i32),
}

/// Input of an interactive command.
#[derive(Debug)]
pub(super) enum Typed {
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
pub(super) enum Watched {
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
pub(super) struct Watch {
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
) -> Answer<T> {
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
pub(super) fn unread<T: Send + 'static, A: Send + 'static>(
    core: &Core,
    request: Streaming<T>,
) -> Answer<A> {
    let stop = core.stop.clone();
    core.tasks.spawn(async move {
        stop.cancelled().await;
        drop(request);
    });
    until_stopped(stream::pending(), &core.stop)
}

/// Plays the output of a command. `None` means no timeout.
pub(super) fn exec(
    start: &Start,
    timeout: Option<Duration>,
) -> impl Stream<Item = Result<Output, Status>> + Send + use<> {
    play(start, timeout, Duration::ZERO)
}

fn play(
    start: &Start,
    timeout: Option<Duration>,
    after: Duration,
) -> impl Stream<Item = Result<Output, Status>> + Send + use<> {
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
                Some(Step::Out(data)) => Output::Out(data),
                Some(Step::Err(data)) => Output::Err(data),
                Some(Step::Repeat(data)) => {
                    steps.push_front(Step::Repeat(data.clone()));
                    Output::Out(data)
                }
                Some(Step::Pause(time)) => {
                    let over = Instant::now() + time;
                    if let Some(end) = end.filter(|end| *end < over) {
                        sleep_until(end).await;
                        return Some((Ok(Output::Exit(TIMED_OUT)), None));
                    }
                    sleep_until(over).await;
                    continue;
                }
                None => return Some((Ok(Output::Exit(code)), None)),
            };
            return Some((Ok(output), Some((steps, code, end))));
        }
    })
}

/// Plays an interactive command: `cat`, or a shell without a script, echoes its input, and on a terminal also each new
/// size.
pub(super) fn converse(
    start: &Start,
    timeout: Option<Duration>,
    input: impl Stream<Item = Result<Typed, Status>> + Send + 'static,
    half_close: HalfClose,
) -> Answer<Output> {
    let words: Vec<&str> = start.command.iter().map(String::as_str).collect();
    let input: Typing = match half_close {
        HalfClose::IsRead => Box::pin(input),
        HalfClose::Aborts => {
            Box::pin(input.chain(stream::iter([Err(Status::new(Code::Internal, ABORTED))])))
        }
    };
    match (words.as_slice(), half_close) {
        (["cat" | "sh" | "bash" | "/bin/sh" | "/bin/bash"], _) => {
            Box::pin(interact(input, start.terminal.is_some()))
        }
        ([..], HalfClose::IsRead) => Box::pin(exec(start, timeout)),
        ([..], HalfClose::Aborts) => {
            Box::pin(while_typed(Box::pin(play(start, timeout, STARTS_AFTER)), input))
        }
    }
}

/// Plays a command that does not read, until its input fails.
fn while_typed(
    run: Answer<Output>,
    input: Typing,
) -> impl Stream<Item = Result<Output, Status>> + Send {
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
fn interact(input: Typing, on_terminal: bool) -> impl Stream<Item = Result<Output, Status>> + Send {
    let state = Some((input, BytesMut::new(), on_terminal));
    stream::unfold(state, async |state| {
        let (mut input, mut line, on_terminal) = state?;
        loop {
            let full = line.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let full = full.or((line.len() >= LINE_BYTES_MAX).then_some(line.len()));
            if let Some(size) = full {
                let data = line.split_to(size).freeze();
                return Some((Ok(Output::Out(data)), Some((input, line, on_terminal))));
            }
            match input.next().await {
                Some(Ok(Typed::Data(data))) => {
                    let end = data.iter().position(|byte| on_terminal && *byte == END_OF_INPUT);
                    line.extend_from_slice(&data[..end.unwrap_or(data.len())]);
                    if end.is_some() {
                        input = Box::pin(stream::empty());
                    }
                }
                Some(Ok(Typed::Size(cols, rows))) if on_terminal => {
                    line.extend_from_slice(format!("{cols}x{rows}\n").as_bytes());
                }
                Some(Ok(Typed::Size(..))) => {}
                Some(Err(status)) => return Some((Err(status), None)),
                None if line.is_empty() => return Some((Ok(Output::Exit(0)), None)),
                None => {
                    let rest = line.split().freeze();
                    return Some((Ok(Output::Out(rest)), Some((input, line, on_terminal))));
                }
            }
        }
    })
}

/// Watches a sandbox: its current state, older log lines and events, and then changes.
pub(super) fn watch(
    core: &Arc<Core>,
    place: &super::state::Key,
    watch: Watch,
) -> Result<impl Stream<Item = Result<Watched, Status>> + Send + use<>, Status> {
    // Subscribed first: events in between are sent twice rather than never.
    let notices = core.subscribe();
    let sandbox = core.with(|state| state.sandbox(place).cloned())?;
    let mut queue = VecDeque::new();
    if let Some(filter) = &watch.logs {
        let lines =
            if watch.log_tail == 0 { Vec::new() } else { sandbox.tail(filter, watch.log_tail) };
        queue.extend(lines.into_iter().map(Watched::Log));
    }
    if watch.events {
        let tail = usize::try_from(watch.event_tail).unwrap_or(usize::MAX);
        let older = sandbox.events.len().saturating_sub(tail);
        queue.extend(sandbox.events.iter().skip(older).cloned().map(Watched::Event));
    }
    let mut watcher = Watcher {
        core: Arc::clone(core),
        place: sandbox.place(),
        id: sandbox.meta.id.clone(),
        over: watch.stop_on_terminal && settled(sandbox.phase),
        watch,
        notices,
        queue,
    };
    watcher.queue.push_front(Watched::Sandbox(Box::new(sandbox)));
    Ok(stream::unfold(watcher, async |mut watcher| {
        let next = watcher.next().await?;
        Some((Ok(next), watcher))
    }))
}

struct Watcher {
    core: Arc<Core>,
    place: super::state::Key,
    id: String,
    watch: Watch,
    notices: Receiver<Notice>,
    queue: VecDeque<Watched>,
    over: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Watched> {
        loop {
            if let Some(next) = self.queue.pop_front() {
                return Some(next);
            }
            if self.over {
                return None;
            }
            match self.notices.recv().await {
                Ok(notice) => self.take(notice),
                Err(RecvError::Lagged(missed)) => {
                    self.queue.push_back(Watched::Warning(format!("{missed} events were missed")));
                    self.look();
                }
                Err(RecvError::Closed) => self.over = true,
            }
        }
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Changed(id) if id == self.id => self.look(),
            Notice::Gone(id) if id == self.id => self.over = true,
            Notice::Log(id, line) if id == self.id => {
                if self.watch.logs.as_ref().is_some_and(|filter| filter.takes(&line)) {
                    self.queue.push_back(Watched::Log(line));
                }
            }
            Notice::Event(id, event) if id == self.id && self.watch.events => {
                self.queue.push_back(Watched::Event(event));
            }
            Notice::Changed(_) | Notice::Gone(_) | Notice::Log(..) | Notice::Event(..) => {}
        }
    }

    /// Queues the current sandbox.
    fn look(&mut self) {
        let found = self.core.with(|state| state.sandbox(&self.place).cloned());
        let Some(sandbox) = found.ok().filter(|sandbox| sandbox.meta.id == self.id) else {
            self.over = true;
            return;
        };
        self.over = self.watch.stop_on_terminal && settled(sandbox.phase);
        if self.watch.status || self.over {
            self.queue.push_back(Watched::Sandbox(Box::new(sandbox)));
        }
    }
}

/// Whether a phase lasts until a caller changes it.
fn settled(phase: Phase) -> bool {
    matches!(phase, Phase::Ready | Phase::Error | Phase::Stopped | Phase::Completed)
}
