//! A time limit for every test: a test that hangs fails with its name, and the other tests continue.
//!
//! Invariants
//! - [`block_on`] fails a test at its limit by a panic on the test's own thread.
//! - A test that blocks its thread beyond that, or has no runtime, ends the process after its name was printed, with
//!   the servers that tests have started.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// Time limit of a test. A test takes at most five seconds beside others on two cores.
const TEST_TIME_MAX: Duration = Duration::from_mins(4);
/// The same with `just soak`, which repeats what is repeated a few times otherwise.
const SOAK_TIME_MAX: Duration = Duration::from_hours(1);
/// Additional time for a test that blocks its thread, before the process exits.
const BLOCKED_TIME_MAX: Duration = Duration::from_mins(1);
/// Time for the remaining tasks of a failed test to end.
const SHUTDOWN_TIME: Duration = Duration::from_secs(5);

/// Running tests by number: the name, and the time at which the process exits if the test still runs.
static RUNNING: Mutex<BTreeMap<u64, (String, Instant)>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// Whether the test on this thread has run out of time.
    static RUN_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether the test on this thread has run out of time. Its values are then dropped where it waits.
pub(crate) fn has_run_out() -> bool {
    RUN_OUT.get()
}

fn running() -> MutexGuard<'static, BTreeMap<u64, (String, Instant)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limit of a test. It is removed when this is dropped.
pub(crate) struct TimeLimit(u64);

impl Drop for TimeLimit {
    fn drop(&mut self) {
        running().remove(&self.0);
    }
}

/// Returns the time limit of a test.
fn test_time_max() -> Duration {
    if std::env::var_os("SOAK").is_some() { SOAK_TIME_MAX } else { TEST_TIME_MAX }
}

/// Returns the name of the test that runs on this thread.
fn test_name() -> String {
    std::thread::current().name().unwrap_or("?").to_owned()
}

/// Limits a test that has no runtime of its own. A test with a runtime uses [`block_on`].
pub(crate) fn start_time_limit() -> TimeLimit {
    static WATCHDOG: Once = Once::new();
    WATCHDOG.call_once(|| drop(std::thread::spawn(watch_for_stuck_tests)));
    let mut running = running();
    let number = running.last_key_value().map_or(0, |(last, _)| last + 1);
    running.insert(number, (test_name(), Instant::now() + test_time_max() + BLOCKED_TIME_MAX));
    TimeLimit(number)
}

/// Exits the process if a test is stuck.
fn watch_for_stuck_tests() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = Instant::now();
        let stuck =
            running().values().find(|(_, until)| now > *until).map(|(name, _)| name.clone());
        if let Some(name) = stuck {
            // `eprintln` would be captured and shown only for failed tests.
            let _ = writeln!(io::stderr(), "\ntest `{name}` is stuck: ending all tests");
            kill_servers();
            std::process::exit(101);
        }
    }
}

/// Kills the servers that tests have started as processes of their own, which would outlive this one.
fn kill_servers() {
    let own = std::process::id().to_string();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // The ID, the name in parentheses, the state, and the ID of the parent.
        let Some((id, rest)) = stat.split_once(" (shoreguard) ") else { continue };
        if rest.split(' ').nth(1) == Some(own.as_str()) {
            let _ = Command::new("kill").args(["-KILL", id]).status();
        }
    }
}

/// Runs a test on a runtime of its own, with the time limit.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    block_on_within(test_time_max(), test)
}

fn block_on_within<T>(time: Duration, test: impl Future<Output = T>) -> T {
    let _limit = start_time_limit();
    // SQLite is refused on a current-thread runtime.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    RUN_OUT.set(false);
    let done = runtime.block_on(async {
        let mut test = pin!(test);
        let done = tokio::time::timeout(time, test.as_mut()).await;
        // Before the test is dropped.
        RUN_OUT.set(done.is_err());
        done
    });
    done.unwrap_or_else(|_| {
        runtime.shutdown_timeout(SHUTDOWN_TIME);
        panic!("test `{}` takes longer than {time:?}", test_name())
    })
}

#[test]
fn a_test_over_its_time_limit_fails_with_its_name() {
    let time = Duration::from_millis(20);
    let waits = move || block_on_within(time, std::future::pending::<()>());
    let stuck = std::thread::Builder::new().name("waits".to_owned()).spawn(waits).unwrap();
    let said = stuck.join().unwrap_err();
    assert_eq!(said.downcast_ref::<String>().unwrap(), "test `waits` takes longer than 20ms");
    assert_eq!(block_on_within(time, async { 1 }), 1);
}
