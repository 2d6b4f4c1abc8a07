//! Deliveries while the database accepts no results, and failures of a receiver that was replaced.

use diesel_async::RunQueryDsl;
use shoreguard::clock::Timestamp;
use shoreguard::db::types::WebhookId;
use shoreguard::db::{Engine, on_conn};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::webhooks::store;

use super::receiver::{Receiver, Reply};
use super::{all_in, allow_loopback, change, created, emit, get, request, update};
use crate::support::server::TestServer;
use crate::support::{TestDb, eventually};

/// A webhook without a receiver.
const ROW: &str = "INSERT INTO webhooks (url, created_by, created_at, uid, updated_at) \
    VALUES ('', 'test', '2026-01-01 00:00:00.000000', 'one', '2026-01-01 00:00:00.000000')";
/// Messages of a webhook that are sent without a stored result.
const UNSTORED_MAX: usize = 400;

server_tests! {
    tuned allow_loopback;
    messages_stop_while_their_results_cannot_be_stored_and_are_each_sent_once,
    a_webhook_with_a_new_address_has_no_failures,
}

both_engines! {
    a_change_of_a_webhook_neither_overwrites_nor_inherits_failures_of_that_moment,
}

/// Makes the database refuse the results of messages, as if its disk were full.
async fn refuse_results(sg: &TestServer) {
    match sg.engine {
        Engine::Sqlite => {
            let trigger = "CREATE TRIGGER full_disk BEFORE UPDATE ON webhook_deliveries \
                           BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
            sg.sql(trigger).await
        }
        Engine::Postgres => {
            let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql \
                          AS $$ BEGIN RAISE EXCEPTION 'could not extend file'; END $$";
            sg.sql(refuse).await;
            let trigger = "CREATE TRIGGER full_disk BEFORE UPDATE ON webhook_deliveries \
                           FOR EACH ROW EXECUTE FUNCTION refuse()";
            sg.sql(trigger).await
        }
    };
}

async fn accept_results(sg: &TestServer) {
    match sg.engine {
        Engine::Sqlite => sg.sql("DROP TRIGGER full_disk").await,
        Engine::Postgres => sg.sql("DROP FUNCTION refuse() CASCADE").await,
    };
}

async fn messages_stop_while_their_results_cannot_be_stored_and_are_each_sent_once(sg: TestServer) {
    const MESSAGES: usize = UNSTORED_MAX + 100;
    let (receiver, witness) = (Receiver::start().await, Receiver::start().await);
    let wide = pb::CreateWebhookRequest { max_in_flight: 64, ..request(&receiver.url()) };
    let id = created(&sg, wide).await;
    refuse_results(&sg).await;
    let insert = format!(
        "INSERT INTO events (name, payload_json, occurred_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MESSAGES}) \
         SELECT '{}', '{{}}', '2998-01-01 00:00:00.000000' FROM n",
        super::EVENT
    );
    assert_eq!(sg.sql(&insert).await, MESSAGES);
    receiver.wait_for(UNSTORED_MAX).await;
    // By the time that an event has arrived elsewhere, the messages that were queued before it would have been sent.
    created(&sg, request(&witness.url())).await;
    emit(&sg.admin(), &["one"]).await;
    witness.wait_for(1).await;
    assert_eq!(receiver.received().len(), UNSTORED_MAX);
    accept_results(&sg).await;
    let success = pb::WebhookDeliveryStatus::Success;
    let delivered = all_in(&sg, id, MESSAGES + 1, success).await;
    assert!(delivered.iter().all(|one| one.attempt == 1 && one.earlier_attempts.is_empty()));
    assert_eq!(receiver.received().len(), MESSAGES + 1, "none was sent again");
    sg.finish().await;
}

async fn a_webhook_with_a_new_address_has_no_failures(sg: TestServer) {
    let (former, receiver) = (Receiver::start().await, Receiver::start().await);
    former.answer(|_| Reply::status(500));
    let id = created(&sg, request(&former.url())).await;
    emit(&sg.admin(), &["one"]).await;
    eventually("the attempt is counted", || async { get(&sg, id).await.failures == 1 }).await;
    let described = pb::UpdateWebhookRequest {
        description: "the same receiver".into(),
        ..change(id, &["description"])
    };
    let webhook = update(&sg, described).await.unwrap().webhook.unwrap();
    assert!(webhook.failures > 0 && webhook.failing_since_time.is_some(), "{webhook:?}");
    let moved = pb::UpdateWebhookRequest { url: receiver.url(), ..change(id, &["url"]) };
    let webhook = update(&sg, moved).await.unwrap().webhook.unwrap();
    assert!(webhook.failures == 0 && webhook.failing_since_time.is_none(), "{webhook:?}");
    sg.finish().await;
}

async fn a_change_of_a_webhook_neither_overwrites_nor_inherits_failures_of_that_moment(db: TestDb) {
    let mut conn = db.write().await.unwrap();
    on_conn!(&mut conn, |c| diesel::sql_query(ROW).execute(c).await).unwrap();
    let (id, since) = (WebhookId(1), Some(Timestamp::from_unix_seconds(1_700_000_000)));
    // A call has read it, and an attempt fails before the call writes.
    let mut read = store::by_id(&mut conn, id).await.unwrap().unwrap();
    store::set_failures(&mut conn, (id, read.version), since, 3).await.unwrap();
    read.version += 1;
    assert!(store::update(&mut conn, &read).await.unwrap());
    let stored = store::by_id(&mut conn, id).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.failures, stored.failing_since), (read.version, 3, since));
    // The result of an attempt for the former version, which may have another receiver, is late.
    store::set_failures(&mut conn, (id, read.version - 1), None, 0).await.unwrap();
    let stored = store::by_id(&mut conn, id).await.unwrap().unwrap();
    assert_eq!((stored.failures, stored.failing_since), (3, since));
}
