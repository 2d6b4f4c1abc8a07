//! Open streams: their memory, the time to open one, the delivery of an event to each, and calls beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Cost, Topic};
use crate::cases::proxied::unparsed_call;
use crate::cases::{Subject, run_rounds};
use crate::figure::Figure;
use crate::fleet::{self, Admin, Fleet};
use crate::load::{self, Call, MANY_CONNECTIONS, OpenStreams};
use crate::{Bench, BoxError};

const TOTALS: [u32; 5] = [1, 10, 100, 1_000, 10_000];
/// Streams per connection.
const STREAMS_PER_CONNECTION: u32 = 100;
/// Total from which the memory and the time of one stream are larger than the noise.
const MEASURED_FROM: u32 = 100;
/// Time for an event to reach all streams.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// First byte of a message with an event: its field number and type.
const EVENT_FIELD: u8 = 0x0a;
/// Wait before memory is measured.
const SETTLE: Duration = Duration::from_secs(2);

/// Opens streams step by step.
pub(super) fn measure(bench: &Bench) -> Result<Topic, BoxError> {
    let fleet =
        Fleet::start(bench, Engine::Sqlite)?.ok_or("a server on SQLite cannot be started")?;
    let mut watchers = Watchers::default();
    let mut call = Cost::new("a proxied read beside the streams, processor time", "us");
    let mut opening = Cost::new("opening of a stream", "us");
    let mut memory = Cost::new("memory of a stream", "KB");
    let mut delivery = Cost::new("delivery of an event to a stream", "us");
    let mut before = (0, fleet.server.resident_mb()?);
    for total in TOTALS {
        let new = total - before.0;
        let begun = Instant::now();
        bench.runtime.block_on(watchers.open(&fleet, new))?;
        let opened_us = begun.elapsed().as_secs_f64() * 1e6 / f64::from(new);
        let delivered = bench.runtime.block_on(watchers.deliver(&fleet, bench.options.rounds))?;
        let mut subjects = [Subject::new("proxied", &fleet.server, vec![unparsed_call(&fleet)?])];
        run_rounds(bench, &mut subjects, MANY_CONNECTIONS)?;
        let [proxied] = subjects;
        call.add(total, proxied.cost);
        std::thread::sleep(SETTLE);
        let resident = fleet.server.resident_mb()?;
        if total >= MEASURED_FROM {
            opening.add(total, one_value(opened_us));
            memory.add(total, one_value((resident - before.1) * 1e3 / f64::from(new)));
            delivery.add(total, delivered);
        }
        before = (total, resident);
    }
    Ok(Topic { units: "open streams", costs: vec![call, opening, memory, delivery] })
}

fn one_value(value: f64) -> Figure {
    let mut figure = Figure::default();
    figure.add(value);
    figure
}

/// Streams of events that are open and read.
#[derive(Default)]
pub(in crate::cases) struct Watchers {
    readers: JoinSet<()>,
    /// Keeps the connections open.
    connections: Vec<JoinSet<Result<(), h2::Error>>>,
    count: usize,
    /// Number of events that all streams have received.
    received: Arc<AtomicUsize>,
}

impl Watchers {
    /// Opens more streams.
    pub(in crate::cases) async fn open(
        &mut self,
        fleet: &Fleet,
        count: u32,
    ) -> Result<(), BoxError> {
        let request = pb::WatchEventsRequest {
            after_sequence: -1,
            gateway: fleet::gateway_name(0),
            names: vec!["gateway.updated".to_owned()],
        };
        let path = "/shoreguard.v1.EventService/WatchEvents";
        let call = Call::new(path, &request, Some(&fleet.admin_key))?;
        let mut missing = count;
        while missing > 0 {
            let streams = missing.min(STREAMS_PER_CONNECTION);
            let shape = (1, usize::try_from(streams)?);
            let opened = load::open_streams(fleet.server.address, &call, shape).await?;
            let OpenStreams { connections, bodies } = opened;
            self.connections.push(connections);
            for (sender, body) in bodies {
                let received = Arc::clone(&self.received);
                self.readers.spawn(async move {
                    read_events(body, &received).await;
                    // The connection stays open as long as one of its senders exists.
                    drop(sender);
                });
            }
            missing -= streams;
        }
        self.count += usize::try_from(count)?;
        Ok(())
    }

    /// Makes an event per round, and waits until all streams have received it. Returns the time per stream, in
    /// microseconds.
    pub(in crate::cases) async fn deliver(
        &self,
        fleet: &Fleet,
        rounds: u32,
    ) -> Result<Figure, BoxError> {
        let admin = Admin::connect(fleet.server.address, &fleet.admin_key).await?;
        let mut figure = Figure::default();
        for round in 0..rounds {
            let expected = self.received.load(Ordering::Relaxed) + self.count;
            let begun = Instant::now();
            let text = format!("round {round} of {} streams", self.count);
            admin.describe(fleet::gateway_name(0), text).await?;
            let all = async {
                while self.received.load(Ordering::Relaxed) < expected {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(DELIVERY_TIMEOUT, all).await.map_err(|_| "streams did not receive an event")?;
            figure.add(begun.elapsed().as_secs_f64() * 1e6 / self.count as f64);
        }
        Ok(figure)
    }
}

/// Counts the events of a stream until it ends.
async fn read_events(mut body: h2::RecvStream, received: &AtomicUsize) {
    while let Some(Ok(data)) = body.data().await {
        received.fetch_add(count_events(&data), Ordering::Relaxed);
        if body.flow_control().release_capacity(data.len()).is_err() {
            return;
        }
    }
}

/// Counts the messages with an event. Messages that only move the position begin with another field.
fn count_events(mut data: &[u8]) -> usize {
    let mut count = 0;
    // A frame is a byte of flags, the length, and the message.
    while let [_, a, b, c, d, rest @ ..] = data {
        count += usize::from(rest.first() == Some(&EVENT_FIELD));
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        data = rest.get(length..).unwrap_or_default();
    }
    count
}
