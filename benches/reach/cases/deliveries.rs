//! Measures messages of webhooks: how many are delivered, from events that are already stored to a fast receiver.

use std::time::Duration;

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::webhook_service_client::WebhookServiceClient;

use super::rows;
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin};
use crate::place::{self, ENGINES, ServerSetup};
use crate::receiver::Receiver;
use crate::{Bench, BoxError};

/// Events of a round, each with one message.
const EVENTS: u32 = 20_000;
const PER_SECOND_MIN: f64 = 5_000.0;
/// Time for all messages of a round.
const ROUND_TIMEOUT: Duration = Duration::from_mins(1);
/// Wait until the last results are stored.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures both engines. The server is started once per round, and queues, sends and completes the messages of events
/// that were inserted while it was stopped.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        run_engine(bench, &setup, engine)?;
    }
    Ok(())
}

fn run_engine(bench: &Bench, setup: &ServerSetup, engine: Engine) -> Result<(), BoxError> {
    let key = setup.create_admin_key()?;
    let receiver = bench.runtime.block_on(Receiver::start())?;
    let (server, _) = fleet::start_server(bench, setup)?;
    bench.runtime.block_on(async {
        let admin = Admin::connect(server.address, &key).await?;
        admin.register(rows::GATEWAY.to_owned(), server.address).await?;
        create_webhook(&admin, &receiver, "gateway.updated").await
    })?;
    drop(server);
    let [mut per_second, mut cost] = [(); 2].map(|()| Figure::default());
    for round in 0..bench.options.rounds {
        let from = round * EVENTS + 1;
        bench.runtime.block_on(rows::fill_events(setup, from, from + EVENTS - 1))?;
        receiver.reset();
        let (server, _) = fleet::start_server(bench, setup)?;
        let count = usize::try_from(EVENTS)?;
        bench.runtime.block_on(receiver.wait_for(count, ROUND_TIMEOUT))?;
        std::thread::sleep(SETTLE);
        per_second.add(f64::from(EVENTS) / receiver.span().as_secs_f64());
        cost.add(server.processor_time()?.as_secs_f64() * 1e6 / f64::from(EVENTS));
    }
    let name = place::engine_name(engine);
    let target = Target::AtLeast(PER_SECOND_MIN);
    per_second.print(&format!("{name}, deliveries"), "messages/s", target)?;
    cost.print(&format!("{name}, processor time a message"), "us", Target::None)
}

/// Creates a webhook that sends as many messages at once as possible.
pub(super) async fn create_webhook(
    admin: &Admin,
    receiver: &Receiver,
    event_type: &str,
) -> Result<(), BoxError> {
    let request = pb::CreateWebhookRequest {
        url: receiver.url(),
        event_types: vec![event_type.to_owned()],
        max_in_flight: 64,
        ..Default::default()
    };
    let mut webhooks = WebhookServiceClient::new(admin.channel());
    webhooks.create_webhook(admin.with_bearer(request)).await?;
    Ok(())
}
