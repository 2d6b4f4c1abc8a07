//! The open load: calls are sent at a fixed rate, whether or not earlier calls were answered.
//!
//! A separate thread releases the calls, since the timers of tokio are too coarse. A call is measured from its release,
//! so that a slow server does not reduce the number of calls that are sent. The lateness of the releases is measured too:
//! it shows whether this process received enough processor time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::BoxError;
use crate::load::{self, Call, GRACE, LoadResult};

/// Number of connections, which are used in turn.
const CONNECTIONS: usize = 16;
/// Maximum number of released calls that wait for being sent.
const WAITING_MAX: usize = 100_000;

/// Result of an open load.
#[derive(Debug)]
pub(crate) struct OpenResult {
    /// The calls.
    pub(crate) load: LoadResult,
    /// 99th percentile of the lateness of the releases, in microseconds.
    pub(crate) lateness_us: f64,
}

/// Sends calls for the given time, after a warm-up of a tenth of it that is not counted.
pub(crate) fn run(
    address: SocketAddr,
    calls: &[Call],
    per_second: f64,
    time: Duration,
) -> Result<OpenResult, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = time + time / 10;
    let (due, released) = mpsc::channel(WAITING_MAX);
    std::thread::scope(|scope| {
        // Connections are opened first, so that no call waits for them.
        let sent = runtime.block_on(async {
            let mut connections = JoinSet::new();
            let mut senders = Vec::new();
            for _ in 0..CONNECTIONS {
                senders.push(load::connect(address, &mut connections).await?);
            }
            let mut requests = Vec::new();
            for call in calls {
                requests.push((call.request(address)?, call.frame.clone()));
            }
            let pacer = scope.spawn(move || release(&due, per_second, all));
            let from = Instant::now() + time / 10;
            let durations = timeout(all + GRACE, send_all(released, &senders, &requests, from));
            Ok::<_, BoxError>((durations.await??, pacer))
        });
        let (durations, pacer) = sent?;
        let lateness = pacer.join().map_err(|_| "the pacer panicked")??;
        let lateness_us = LoadResult::new(lateness, all).percentile(99);
        Ok(OpenResult { load: LoadResult::new(durations, time), lateness_us })
    })
}

/// Releases calls at a fixed rate. Returns the lateness of each, in nanoseconds.
fn release(
    due: &mpsc::Sender<Instant>,
    per_second: f64,
    time: Duration,
) -> Result<Vec<u32>, BoxError> {
    let begun = Instant::now();
    let mut lateness = Vec::new();
    loop {
        let after = Duration::from_secs_f64(lateness.len() as f64 / per_second);
        if after >= time {
            return Ok(lateness);
        }
        let target = begun + after;
        std::thread::sleep(target.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        due.try_send(now).map_err(|_| "calls are not sent as fast as they are released")?;
        lateness.push(nanoseconds(now - target));
    }
}

/// Sends each released call, and waits until all are answered. Returns the durations of those that were released after
/// `from`.
async fn send_all(
    mut released: mpsc::Receiver<Instant>,
    senders: &[SendRequest<Bytes>],
    requests: &[(Request<()>, Bytes)],
    from: Instant,
) -> Result<Vec<u32>, BoxError> {
    let (mut open, mut durations, mut number) = (JoinSet::new(), Vec::new(), 0_usize);
    loop {
        tokio::select! {
            at = released.recv() => {
                let Some(at) = at else { break };
                let mut send = senders[number % senders.len()].clone();
                let (request, frame) = requests[number % requests.len()].clone();
                number += 1;
                open.spawn(async move {
                    load::send_call(&mut send, &request, &frame).await?;
                    Ok::<_, BoxError>((at, nanoseconds(at.elapsed())))
                });
            }
            Some(answered) = open.join_next() => {
                let (at, duration) = answered??;
                if at >= from {
                    durations.push(duration);
                }
            }
        }
    }
    while let Some(answered) = open.join_next().await {
        let (at, duration) = answered??;
        if at >= from {
            durations.push(duration);
        }
    }
    Ok(durations)
}

fn nanoseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX)
}
