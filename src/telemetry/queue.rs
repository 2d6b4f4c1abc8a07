//! The queue between the log and standard error: lines are queued in memory, and one thread writes them.
//!
//! Invariants
//! - queuing a line does not wait for the reader of the log, and neither fails nor panics;
//! - the queue is limited in bytes; lines that do not fit or whose write fails are dropped and counted;
//! - waiting for the last lines is limited in time: a full pipe does not delay the exit of the process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::{Condvar, Mutex};
use tracing::warn;

use super::metrics::LOG_LINES_DROPPED;

/// Maximum size of the queued lines, in bytes: about ten thousand lines.
pub(super) const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Memory of a queued line in addition to its text.
const LINE_OVERHEAD_BYTES: usize = 64;
/// Pause before a retry if standard error is non-blocking and full.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Minimum interval between log messages about dropped lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The reason why a line was dropped: a label value of the metric.
#[derive(Debug, Clone, Copy)]
enum DropReason {
    QueueFull,
    WriteFailed,
}

impl DropReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::WriteFailed => "write_failed",
        }
    }
}

/// Lines that wait to be written.
#[derive(Debug)]
pub(super) struct LogQueue {
    bytes_max: usize,
    state: Mutex<QueueState>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    lines: VecDeque<Vec<u8>>,
    /// Size of the waiting lines and of the line that is being written.
    bytes: usize,
    writing: bool,
    /// Number of dropped lines that the log has not reported yet.
    dropped: u64,
    closed: bool,
}

fn memory_cost(line: &[u8]) -> usize {
    line.len() + LINE_OVERHEAD_BYTES
}

impl LogQueue {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        let (state, filled, emptied) = Default::default();
        Arc::new(Self { bytes_max, state, filled, emptied })
    }

    /// Starts the thread that writes to `log`. It runs until the process ends or [`LogQueue::close`] is called.
    pub(super) fn start(
        self: &Arc<Self>,
        log: impl Write + Send + 'static,
    ) -> io::Result<std::thread::JoinHandle<()>> {
        let queue = Arc::clone(self);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || queue.write_all_to(log))
    }

    /// Queues one line, which includes its line ending.
    pub(super) fn push(&self, line: Vec<u8>) {
        let cost = memory_cost(&line);
        let mut state = self.state.lock();
        if state.bytes + cost > self.bytes_max || state.closed {
            state.dropped += 1;
            drop(state);
            return count_dropped(DropReason::QueueFull);
        }
        state.bytes += cost;
        state.lines.push_back(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until every line is written, for at most `within`. Returns whether they are.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let waits = |state: &mut QueueState| state.writing || !state.lines.is_empty();
        !self.emptied.wait_while_for(&mut self.state.lock(), waits, within).timed_out()
    }

    /// Ends the thread after it has written all queued lines.
    #[cfg(test)]
    fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    /// Returns the next line to write, or `None` once the queue is closed and empty.
    fn next(&self) -> Option<Vec<u8>> {
        let waits = |state: &mut QueueState| state.lines.is_empty() && !state.closed;
        let mut state = self.state.lock();
        self.filled.wait_while(&mut state, waits);
        let line = state.lines.pop_front()?;
        state.writing = true;
        Some(line)
    }

    fn finish_line(&self, line: &[u8], written: bool) {
        let mut state = self.state.lock();
        state.bytes -= memory_cost(line);
        state.writing = false;
        state.dropped += u64::from(!written);
        drop(state);
        self.emptied.notify_all();
    }

    fn write_all_to(&self, mut log: impl Write) {
        let mut within_line = false;
        let mut reported: Option<Instant> = None;
        while let Some(line) = self.next() {
            let written = write_line(&mut log, &line, &mut within_line).is_ok();
            self.finish_line(&line, written);
            if !written {
                count_dropped(DropReason::WriteFailed);
            } else if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                let dropped = std::mem::take(&mut self.state.lock().dropped);
                if dropped > 0 {
                    reported = Some(Instant::now());
                    warn!(dropped, "lines of the log were dropped");
                }
            }
        }
    }
}

fn count_dropped(reason: DropReason) {
    counter!(LOG_LINES_DROPPED, "reason" => reason.as_str()).increment(1);
}

/// Writes one line. If the previous write failed within a line, this one begins on a new line.
fn write_line(log: &mut impl Write, line: &[u8], within_line: &mut bool) -> io::Result<()> {
    if *within_line {
        write_bytes(log, b"\n", within_line)?;
    }
    write_bytes(log, line, within_line)
}

fn write_bytes(log: &mut impl Write, mut rest: &[u8], within_line: &mut bool) -> io::Result<()> {
    while !rest.is_empty() {
        match log.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                *within_line = rest[written - 1] != b'\n';
                rest = &rest[written..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process may have made the shared file description of the pipe non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns standard error without the lock of [`io::stderr`]: a write that blocks must not block other users of that
/// lock.
pub(super) fn standard_error() -> io::Result<File> {
    io::stderr().as_fd().try_clone_to_owned().map(File::from)
}

/// The writer for the formatted text of one event.
#[derive(Debug)]
pub(super) struct LineWriter(pub(super) Arc<LogQueue>);

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// A log whose writes each wait for a permit, and fail if the permit is an error.
    struct Gated {
        permits: mpsc::Receiver<io::Result<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().unwrap_or(Ok(()))?;
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The bytes that a gated log has written.
    type Written = Arc<Mutex<Vec<u8>>>;

    fn gated() -> (Gated, mpsc::Sender<io::Result<()>>, Written) {
        let (permit, permits) = mpsc::channel();
        let written = Arc::default();
        (Gated { permits, written: Arc::clone(&written) }, permit, written)
    }

    #[test]
    fn a_full_log_queue_drops_lines_and_never_blocks() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (log, permit, written) = gated();
        let queue = LogQueue::new(3 * memory_cost(b"line 0\n"));
        let thread = queue.start(log).unwrap();
        metrics::with_local_recorder(&recorder, || {
            for n in 0..5 {
                queue.push(format!("line {n}\n").into_bytes());
            }
        });
        let dropped = "shoreguard_log_lines_dropped_total{reason=\"queue_full\"} 2";
        assert!(recorder.handle().render().contains(dropped), "{}", recorder.handle().render());
        assert!(!queue.flush(Duration::from_millis(1)), "nothing is written yet");
        drop(permit);
        assert!(queue.flush(Duration::from_secs(10)));
        assert_eq!(*written.lock(), b"line 0\nline 1\nline 2\n");
        queue.close();
        thread.join().unwrap();
    }

    #[test]
    fn a_failed_log_write_drops_only_its_own_line() {
        let (log, permit, written) = gated();
        let queue = LogQueue::new(QUEUE_BYTES_MAX);
        permit.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        permit.send(Err(ErrorKind::Interrupted.into())).unwrap();
        permit.send(Ok(())).unwrap();
        permit.send(Err(ErrorKind::StorageFull.into())).unwrap();
        drop(permit);
        for n in 0..4 {
            queue.push(format!("line {n}\n").into_bytes());
        }
        queue.close();
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || queue.write_all_to(log));
        assert_eq!(*written.lock(), b"line 1\nline 3\n");
        let dropped = "shoreguard_log_lines_dropped_total{reason=\"write_failed\"} 2";
        assert!(recorder.handle().render().contains(dropped), "{}", recorder.handle().render());
    }

    #[test]
    fn a_partially_written_line_is_terminated_before_the_next_line() {
        struct Full(Vec<u8>, usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let fits = bytes.len().min(self.1);
                self.1 -= fits;
                self.0.extend_from_slice(&bytes[..fits]);
                if fits == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(fits) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut log, mut within_line) = (Full(Vec::new(), 3), false);
        assert!(write_line(&mut log, b"first\n", &mut within_line).is_err());
        log.1 = 100;
        write_line(&mut log, b"second\n", &mut within_line).unwrap();
        assert_eq!(log.0, b"fir\nsecond\n");
    }
}
