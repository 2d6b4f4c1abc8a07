//! Measures what a slow receiver of webhooks changes for the others: the time from the call that makes an event until
//! its message has arrived, without and with the slow one.

use std::time::{Duration, Instant};

use shoreguard::db::Engine;

use super::approvals::percentile;
use super::deliveries::create_webhook;
use super::rows::GATEWAY;
use crate::child::Child;
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin};
use crate::place::{self, ENGINES, ServerSetup};
use crate::receiver::Receiver;
use crate::{Bench, BoxError};

/// Maximum of the p99 with the slow receiver, divided by that without it.
const P99_RATIO_MAX: f64 = 1.1;
/// How long the slow receiver takes to answer. Shoreguard gives up earlier, and sends the message again later.
const SLOW_ANSWER: Duration = Duration::from_secs(30);
/// Number of the other receivers, each with a webhook.
const OTHERS: usize = 8;
/// Events of a turn, and the time between two of them.
const MEASURED: (usize, Duration) = (80, Duration::from_millis(20));
/// Events after the start, as many as messages that a webhook sends at once: they open the connections of the others,
/// and keep all those of the slow receiver busy.
const FIRST: (usize, Duration) = (64, Duration::from_millis(5));
/// Time for the last message of a turn to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Most rounds of an engine, and the time after which no further one begins.
const ROUNDS_MAX: (u32, Duration) = (5, Duration::from_secs(18));
/// The event that makes the messages.
const EVENT: &str = "gateway.updated";

/// Measures both engines.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        run_engine(bench, engine)?;
    }
    Ok(())
}

/// Measures two servers in turn, of which only the second one has the slow receiver.
fn run_engine(bench: &Bench, engine: Engine) -> Result<(), BoxError> {
    let Some(without) = Site::start(bench, engine, false)? else { return Ok(()) };
    let Some(with) = Site::start(bench, engine, true)? else { return Ok(()) };
    let mut sites = [without, with];
    let mut figures = [(); 2].map(|()| (Figure::default(), Figure::default()));
    let begun = Instant::now();
    for _ in 0..bench.options.rounds.min(ROUNDS_MAX.0) {
        for (site, (p50, p99)) in sites.iter_mut().zip(&mut figures) {
            let took_ms = bench.runtime.block_on(site.measure(MEASURED))?;
            p50.add(percentile(&took_ms, 50));
            p99.add(percentile(&took_ms, 99));
        }
        if begun.elapsed() > ROUNDS_MAX.1 {
            break;
        }
    }
    let name = format!("{}, event to POST", place::engine_name(engine));
    for ((p50, p99), what) in figures.iter().zip(["without", "with"]) {
        p50.print(&format!("{name}, {what} a slow receiver, p50"), "ms", Target::None)?;
        p99.print(&format!("{name}, {what} a slow receiver, p99"), "ms", Target::None)?;
    }
    let [(_, without), (_, with)] = &figures;
    let name = format!("{name}, p99 with a slow receiver by that without it");
    with.divided_by(without).print(&name, "times", Target::AtMost(P99_RATIO_MAX))
}

/// A server with webhooks. The server is stopped before its receivers and its database.
struct Site {
    _server: Child,
    admin: Admin,
    /// The receivers that answer at once.
    others: Vec<Receiver>,
    /// The receiver that answers late.
    slow: Option<Receiver>,
    /// Number of changes so far.
    changes: usize,
    _setup: ServerSetup,
}

impl Site {
    /// Starts a server with its webhooks, and sends the first messages. Returns `None` if this host lacks the engine.
    fn start(bench: &Bench, engine: Engine, has_slow: bool) -> Result<Option<Self>, BoxError> {
        let Some(setup) = ServerSetup::new(bench, engine)? else { return Ok(None) };
        let key = setup.create_admin_key()?;
        let (server, _) = fleet::start_server(bench, &setup)?;
        bench.runtime.block_on(async {
            let admin = Admin::connect(server.address, &key).await?;
            admin.register(GATEWAY.to_owned(), server.address).await?;
            let mut others = Vec::new();
            for _ in 0..OTHERS {
                let receiver = Receiver::start_recording().await?;
                create_webhook(&admin, &receiver, EVENT).await?;
                others.push(receiver);
            }
            let mut slow = None;
            if has_slow {
                let receiver = Receiver::start_slow(SLOW_ANSWER).await?;
                create_webhook(&admin, &receiver, EVENT).await?;
                slow = Some(receiver);
            }
            let mut site = Self { _server: server, admin, others, slow, changes: 0, _setup: setup };
            site.measure(FIRST).await?;
            if let Some(slow) = &site.slow {
                slow.wait_for(FIRST.0, ARRIVAL_TIMEOUT).await?;
            }
            Ok(Some(site))
        })
    }

    /// Makes events, one after another. Returns the time from the begin of each call until its message has arrived at
    /// each of the others, in milliseconds, sorted.
    async fn measure(&mut self, (count, every): (usize, Duration)) -> Result<Vec<f64>, BoxError> {
        self.others.iter().for_each(Receiver::reset);
        let mut timer = tokio::time::interval(every);
        let mut calls = Vec::new();
        for _ in 0..count {
            timer.tick().await;
            self.changes += 1;
            calls.push(Instant::now());
            self.admin.describe(GATEWAY.to_owned(), format!("change {}", self.changes)).await?;
        }
        let mut took_ms = Vec::new();
        for receiver in &self.others {
            receiver.wait_for(count, ARRIVAL_TIMEOUT).await?;
            let arrivals = receiver.arrivals();
            if arrivals.len() != count {
                let got = arrivals.len();
                return Err(format!("messages of {got} events have arrived, not {count}").into());
            }
            // Events are numbered in the order of the calls.
            let pairs = arrivals.iter().zip(&calls);
            let delays = pairs.map(|((_, at), call)| at.saturating_duration_since(*call));
            took_ms.extend(delays.map(|delay| delay.as_secs_f64() * 1e3));
        }
        took_ms.sort_by(f64::total_cmp);
        Ok(took_ms)
    }
}
