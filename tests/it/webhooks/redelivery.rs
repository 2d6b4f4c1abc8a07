//! Sending the messages of a span of time again in several calls.

use shoreguard::pb::v1 as pb;

use super::{NOWHERE, allow_loopback, created, request};
use crate::cli_golden;
use crate::support::server::TestServer;

server_tests_without_jobs! {
    tuned allow_loopback;
    a_span_is_continued_until_each_of_its_messages_was_sent_again_once,
    only_failed_messages_are_continued_where_the_call_stopped,
    a_part_of_a_span_is_refused_if_it_is_invalid,
    the_command_line_says_how_a_span_continues,
}

/// Stores finished messages of a webhook, of which one in five has failed.
async fn store_finished(sg: &TestServer, webhook_id: i64, count: usize) {
    let insert = format!(
        "INSERT INTO webhook_deliveries (webhook_id, event_type, payload_json, status, created_at, message_id, \
         event_sequence, last_attempt_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
         SELECT {webhook_id}, 'a.b', '{{}}', CASE WHEN n.i % 5 = 0 THEN 'failed' ELSE 'success' END, \
         '2026-01-02 00:00:00.000000', 'msg_' || n.i, n.i, '2026-01-02 00:00:00.000000' FROM n"
    );
    assert_eq!(sg.sql(&insert).await, count);
}

/// Stores that pending messages were sent, and counts it as the code of their responses.
async fn send_pending(sg: &TestServer) -> usize {
    let sent = "UPDATE webhook_deliveries SET status = 'success', next_attempt_at = NULL, \
                response_code = COALESCE(response_code, 0) + 1 WHERE next_attempt_at IS NOT NULL";
    sg.sql(sent).await
}

/// Returns the number of messages that were sent again a number of times.
async fn sent_again(sg: &TestServer, times: i32) -> usize {
    let count = "UPDATE webhook_deliveries SET attempt = attempt WHERE COALESCE(response_code, 0)";
    sg.sql(&format!("{count} = {times}")).await
}

/// A request for the span in which the messages were queued.
fn span(webhook_id: i64) -> pb::RedeliverWebhookRequest {
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    pb::RedeliverWebhookRequest {
        webhook_id,
        start_time: at(0),
        end_time: at(100_000_000_000),
        ..Default::default()
    }
}

async fn redeliver(
    sg: &TestServer,
    request: pb::RedeliverWebhookRequest,
) -> pb::RedeliverWebhookResponse {
    sg.admin().webhooks().redeliver_webhook(request).await.unwrap().into_inner()
}

/// More messages than one transaction changes. Each call is followed by the attempts, so that what it has sent again is
/// finished and matches the span when the next call begins.
async fn a_span_is_continued_until_each_of_its_messages_was_sent_again_once(sg: TestServer) {
    const MESSAGES: usize = 2_500;
    let webhook_id = created(&sg, request(NOWHERE)).await;
    store_finished(&sg, webhook_id, MESSAGES).await;
    let mut counts = Vec::new();
    let mut next = pb::RedeliverWebhookRequest { max_deliveries: 1_200, ..span(webhook_id) };
    loop {
        let again = redeliver(&sg, next.clone()).await;
        assert_eq!(send_pending(&sg).await, usize::try_from(again.redelivered).unwrap());
        counts.push(again.redelivered);
        if !again.more {
            assert_eq!(again.next_after_delivery_id, 0);
            break;
        }
        assert!(again.next_after_delivery_id > next.after_delivery_id, "{again:?}");
        next.after_delivery_id = again.next_after_delivery_id;
    }
    assert_eq!(counts, [1_200, 1_200, 100]);
    assert_eq!((sent_again(&sg, 1).await, sent_again(&sg, 0).await), (MESSAGES, 0));
    // Without a maximum, one call is enough for all of them.
    let all = redeliver(&sg, span(webhook_id)).await;
    assert_eq!((all.redelivered, all.more, all.next_after_delivery_id), (2_500, false, 0));
    sg.finish().await;
}

async fn only_failed_messages_are_continued_where_the_call_stopped(sg: TestServer) {
    let webhook_id = created(&sg, request(NOWHERE)).await;
    store_finished(&sg, webhook_id, 20).await;
    let failed = pb::RedeliverWebhookRequest { only_failed: true, ..span(webhook_id) };
    let part = pb::RedeliverWebhookRequest { max_deliveries: 3, ..failed };
    let first = redeliver(&sg, part.clone()).await;
    assert_eq!((first.redelivered, first.more), (3, true));
    let after_delivery_id = first.next_after_delivery_id;
    let rest = redeliver(&sg, pb::RedeliverWebhookRequest { after_delivery_id, ..part }).await;
    assert_eq!((rest.redelivered, rest.more, rest.next_after_delivery_id), (1, false, 0));
    assert_eq!(send_pending(&sg).await, 4);
    assert_eq!((sent_again(&sg, 1).await, sent_again(&sg, 0).await), (4, 16));
    // The last messages of a span fill a call.
    let exact = pb::RedeliverWebhookRequest { max_deliveries: 20, ..span(webhook_id) };
    let exact = redeliver(&sg, exact).await;
    assert_eq!((exact.redelivered, exact.more), (20, false));
    sg.finish().await;
}

async fn a_part_of_a_span_is_refused_if_it_is_invalid(sg: TestServer) {
    let webhook_id = created(&sg, request(NOWHERE)).await;
    store_finished(&sg, webhook_id, 1).await;
    let ids =
        pb::RedeliverWebhookRequest { webhook_id, delivery_ids: vec![1], ..Default::default() };
    let of_span = span(webhook_id);
    for invalid in [
        pb::RedeliverWebhookRequest { after_delivery_id: -1, ..of_span.clone() },
        pb::RedeliverWebhookRequest { max_deliveries: -1, ..of_span.clone() },
        pb::RedeliverWebhookRequest { max_deliveries: 50_001, ..of_span.clone() },
        pb::RedeliverWebhookRequest { after_delivery_id: 1, ..ids.clone() },
        pb::RedeliverWebhookRequest { max_deliveries: 1, ..ids },
    ] {
        let refused = sg.admin().webhooks().redeliver_webhook(invalid).await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    }
    let most = pb::RedeliverWebhookRequest { max_deliveries: 50_000, ..of_span };
    assert_eq!(redeliver(&sg, most).await.redelivered, 1);
    sg.finish().await;
}

async fn the_command_line_says_how_a_span_continues(sg: TestServer) {
    let webhook_id = created(&sg, request(NOWHERE)).await;
    store_finished(&sg, webhook_id, 3).await;
    let again = async |options: &str| {
        let line = format!(
            "webhook redeliver {webhook_id} --start-time 2026-01-01T00:00:00Z \
             --end-time 2026-01-03T00:00:00Z --max-deliveries 2 {options}"
        );
        let endpoint = format!("http://{}", sg.address);
        let ran = cli_golden::run(&endpoint, &sg.admin_key, &line, "").await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    };
    let first = again("").await;
    let (_, after) = first.stderr.split_once("--after-delivery-id ").expect(&first.stderr);
    let (id, _) = after.split_once('`').unwrap();
    let second = again(&format!("--after-delivery-id {id}")).await;
    assert!(!second.stderr.contains("--after-delivery-id"), "{}", second.stderr);
    sg.finish().await;
}
