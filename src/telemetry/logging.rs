//! The log: one JSON object per line, or text for people.
//!
//! Invariants
//! - logging does not block: lines are queued in [`super::queue`] and written by a separate thread;
//! - a panic is logged like any other event: the default panic hook would write to standard error and could block.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use super::queue::{LineWriter, LogQueue, QUEUE_BYTES_MAX, standard_error};
use crate::config::{LogFormat, Telemetry};
use crate::error::Error;

/// How long the process waits for the last lines at its end.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The log of this process, once it is initialized.
static LOG: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// Initializes the log. Can be called once per process.
pub fn init_logging(telemetry: &Telemetry) -> Result<(), Error> {
    let queue = LogQueue::new(QUEUE_BYTES_MAX);
    let writer = Arc::clone(&queue);
    let subscriber = subscriber(telemetry, move || LineWriter(Arc::clone(&writer)))?;
    subscriber.try_init().map_err(Error::internal)?;
    // The thread is detached and ends with the process.
    drop(standard_error().and_then(|log| queue.start(log)).map_err(Error::internal)?);
    let _ = LOG.set(queue);
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Writes a line to the log as it is. Returns `false` if the log is not initialized.
pub fn log_line(text: &str) -> bool {
    let Some(queue) = LOG.get() else { return false };
    queue.push(format!("{text}\n").into_bytes());
    true
}

/// Waits for the last lines of the log, for a bounded time.
pub fn flush_log() {
    if let Some(queue) = LOG.get() {
        queue.flush(FLUSH_TIME);
    }
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let current = std::thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let place = panic.location().map(tracing::field::display);
    let why = panic.payload_as_str().unwrap_or("no message");
    let backtrace = Backtrace::capture();
    let captured = (backtrace.status() == BacktraceStatus::Captured)
        .then(|| tracing::field::display(&backtrace));
    tracing::error!(thread, place, why, backtrace = captured, "a thread panicked");
}

type BoxSubscriber = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(telemetry: &Telemetry, writer: W) -> Result<BoxSubscriber, Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&telemetry.log_level).map_err(|error| {
        Error::invalid("telemetry.log_level", format!("is not a valid filter: {error}"))
    })?;
    // Internal errors of the logger would be printed to standard error, which may block or panic.
    let log = fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    Ok(match telemetry.log_format {
        LogFormat::Json => {
            Box::new(log.json().flatten_event(true).with_current_span(false).finish())
        }
        LogFormat::Text => Box::new(log.with_ansi(io::stderr().is_terminal()).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::config::Config;

    #[derive(Clone)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn capture_log(telemetry: &str, events: impl FnOnce()) -> String {
        let telemetry = Config::from_toml(&format!("[telemetry]\n{telemetry}")).unwrap().telemetry;
        let lines = Lines(Arc::new(Mutex::new(Vec::new())));
        let writer = lines.clone();
        let subscriber = subscriber(&telemetry, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_holds_the_event_and_its_spans() {
        let text = capture_log("log_level = 'info'", || {
            tracing::info_span!("call", method = "GetGateway").in_scope(|| {
                tracing::info!(gateway.id = 7, "gateway answered\nagain");
                tracing::debug!("not said");
            });
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "gateway answered\nagain");
        assert_eq!(line["gateway.id"], 7);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["spans"][0]["method"], "GetGateway");
        assert!(line["timestamp"].is_string() && line["target"].is_string());
    }

    #[test]
    fn control_characters_are_removed_from_text_log_lines() {
        let text = capture_log("log_format = 'text'", || {
            tracing::warn!("gateway `{}` is away", "edge\u{1b}[31m");
        });
        assert!(text.contains("WARN"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
