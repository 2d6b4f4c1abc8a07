//! What the logs of sandboxes show, without a caller who watches them.

use shoreguard::resources::bypass_events::domain::STORED_MAX;
use shoreguard::resources::bypass_events::worker::RETENTION;
use shoreguard::resources::gateways::budgets::EXCESSES;
use shoreguard::workers;

use super::followed::Followed;
use super::*;
use crate::approvals::events;
use crate::support::dump;
use crate::support::server::reason;

server_tests_without_jobs! {
    e17_a_bypass_on_0_0_is_detected_without_a_caller,
    e17_a_bypass_on_0_1_is_detected_without_a_caller,
    a_line_that_arrives_late_or_twice_is_counted_once,
    what_of_a_url_can_be_a_credential_is_neither_stored_nor_announced,
    bypasses_are_announced_at_once_and_then_at_most_once_a_minute,
    bypass_events_are_listed_in_pages_with_their_numbers,
    bypass_events_of_a_sandbox_are_limited_in_number_and_time,
    a_new_sandbox_of_the_same_name_has_no_bypass_events,
    a_log_that_grows_faster_than_it_is_read_has_a_gap,
    a_line_with_a_time_ahead_hides_no_gap,
    a_line_with_a_time_ahead_hides_no_gap_from_another_replica,
    lines_with_earlier_times_hide_no_gap,
    a_sandbox_whose_clock_is_ahead_has_no_gap,
    t20_a_gateway_with_too_many_log_lines_is_degraded_without_affecting_others,
}

const LINE: &str = "PROC:LAUNCH [HIGH] DENIED /usr/bin/nsenter(58) -t 1 [rule:-]";

fn list_request(sandbox: &str) -> pb::ListBypassEventsRequest {
    pb::ListBypassEventsRequest {
        gateway: "edge".to_owned(),
        sandbox: sandbox.to_owned(),
        ..Default::default()
    }
}

async fn list(sg: &TestServer, sandbox: &str) -> pb::ListBypassEventsResponse {
    let request = list_request(sandbox);
    sg.admin().sandboxes().list_bypass_events(request).await.unwrap().into_inner()
}

/// Starts a gateway whose sandbox `box` is followed.
async fn followed(sg: &TestServer, generation: Generation) -> Followed {
    let mut edge = Followed::start(sg, generation).await;
    edge.create(sg, "box").await;
    edge.follow(sg).await;
    edge
}

async fn a_bypass_is_detected(sg: TestServer, generation: Generation) {
    let mut edge = followed(&sg, generation).await;
    let log = |level: &str, line: &str| edge.simulator.log("default", "box", level, line).unwrap();
    log("OCSF", LINE);
    log("OCSF", "CONFIG:LOADED [INFO] the option bypass is off");
    log("INFO", LINE);
    edge.follow(&sg).await;
    // A replica that takes over reads the end of the log again.
    for _ in 0..2 {
        edge.take_over(&sg);
        edge.follow(&sg).await;
    }
    let found = list(&sg, "box").await;
    let [event] = &found.bypass_events[..] else { panic!("{found:?}") };
    assert_eq!((event.technique.as_str(), event.mitre_id.as_str()), ("nsenter", "T1611"));
    assert_eq!((event.severity.as_str(), event.binary.as_str()), ("HIGH", "/usr/bin/nsenter"));
    assert_eq!(event.summary, "/usr/bin/nsenter(58) -t 1");
    assert_eq!((event.raw_class.as_str(), event.raw_disposition.as_str()), ("PROC", "DENIED"));
    assert_eq!(event.fields, HashMap::from([("rule".to_owned(), "-".to_owned())]));
    assert_eq!(event.sandbox_id, found.sandbox_id);
    assert!(found.logs_followed && found.latest_time == event.log_time, "{found:?}");
    assert_eq!((found.dropped, found.log_gaps), (0, 0));
    assert_eq!(events(&sg, "sandbox.bypass_detected").await, 1);
    assert_eq!(events(&sg, "sandbox.log_gap").await, 0);
    sg.finish().await;
}

async fn e17_a_bypass_on_0_0_is_detected_without_a_caller(sg: TestServer) {
    a_bypass_is_detected(sg, Generation::V0_0).await;
}

async fn e17_a_bypass_on_0_1_is_detected_without_a_caller(sg: TestServer) {
    a_bypass_is_detected(sg, Generation::V0_1).await;
}

async fn a_line_that_arrives_late_or_twice_is_counted_once(sg: TestServer) {
    let mut edge = followed(&sg, Generation::V0_0).await;
    edge.simulator.log("default", "box", "INFO", "newer").unwrap();
    edge.follow(&sg).await;
    let before = sg.app.clock.now().unix_micros() / 1_000 - 10_000;
    for _ in 0..2 {
        edge.simulator.log_with_time("default", "box", before, LINE).unwrap();
        edge.follow(&sg).await;
        edge.take_over(&sg);
    }
    assert_eq!(list(&sg, "box").await.bypass_events.len(), 1);
    assert_eq!(events(&sg, "sandbox.bypass_detected").await, 1);
    sg.finish().await;
}

async fn what_of_a_url_can_be_a_credential_is_neither_stored_nor_announced(sg: TestServer) {
    let mut edge = followed(&sg, Generation::V0_1).await;
    let log = |line: &str| edge.simulator.log("default", "box", "OCSF", line).unwrap();
    let url = "http://me:hidden@a.example/x?token=hidden";
    log(&format!("PROC:LAUNCH [HIGH] unshare curl {url} [next:{url} url:{url}]"));
    log(&format!("NET:OPEN [MED] DENIED /bin/curl(58) -> GET {url} [url:{url}]"));
    edge.follow(&sg).await;
    let found = list(&sg, "box").await;
    let [event] = &found.bypass_events[..] else { panic!("{found:?}") };
    assert_eq!(event.summary, "unshare curl http://a.example/x");
    let fields = ["next", "url"].map(|key| (key.to_owned(), "http://a.example/x".to_owned()));
    assert_eq!(event.fields, HashMap::from(fields));
    // Webhooks and watchers get what is stored of events.
    for table in ["bypass_events", "refused_connections", "events"] {
        let stored = dump::table(&sg.app.db, table).await;
        assert!(stored.contains("http://a.example/x") && !stored.contains("hidden"), "{stored}");
    }
    sg.finish().await;
}

async fn bypasses_are_announced_at_once_and_then_at_most_once_a_minute(sg: TestServer) {
    let mut edge = followed(&sg, Generation::V0_1).await;
    let announced = async || events(&sg, "sandbox.bypass_detected").await;
    let log = |edge: &Followed, line: &str| {
        edge.simulator.log("default", "box", "OCSF", line).unwrap();
    };
    log(&edge, LINE);
    edge.follow(&sg).await;
    assert_eq!(announced().await, 1);
    for n in 0..3 {
        log(&edge, &format!("{LINE} {n}"));
    }
    edge.follow(&sg).await;
    assert_eq!(announced().await, 1, "it is too early");
    // Another technique has its own event.
    log(&edge, "PROC:LAUNCH [LOW] unshare");
    edge.follow(&sg).await;
    assert_eq!(announced().await, 2);
    sg.app.db.advance_clock(Duration::from_secs(61));
    for _ in 0..2 {
        edge.take_over(&sg);
        edge.follow(&sg).await;
        assert_eq!(announced().await, 3, "the lines since then, although none is new");
    }
    let counted = sg.sql("UPDATE events SET name = name WHERE payload_json LIKE '%\"count\":3%'");
    assert_eq!(counted.await, 1);
    sg.finish().await;
}

async fn bypass_events_are_listed_in_pages_with_their_numbers(sg: TestServer) {
    let mut edge = followed(&sg, Generation::V0_1).await;
    for line in ["unshare [LOW]", "nsenter [HIGH]", "nsenter [CRIT]"] {
        let (what, severity) = line.split_once(' ').unwrap();
        let line = format!("PROC:LAUNCH {severity} {what}");
        edge.simulator.log("default", "box", "OCSF", &line).unwrap();
    }
    edge.follow(&sg).await;
    let (mut token, mut shown) = (String::new(), Vec::new());
    loop {
        let request =
            pb::ListBypassEventsRequest { page_size: 2, page_token: token, ..list_request("box") };
        let page = sg.admin().sandboxes().list_bypass_events(request).await.unwrap().into_inner();
        let by = |pairs: &[(&str, i64)]| -> HashMap<String, i64> {
            pairs.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
        };
        assert_eq!(page.count_by_technique, by(&[("nsenter", 2), ("unshare", 1)]));
        assert_eq!(page.count_by_severity, by(&[("LOW", 1), ("HIGH", 1), ("CRIT", 1)]));
        shown.extend(page.bypass_events.into_iter().map(|event| event.severity));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(shown, ["CRIT", "HIGH", "LOW"]);
    let late = prost_types::Timestamp { seconds: 253_402_300_000, nanos: 0 };
    let late = pb::ListBypassEventsRequest { since_time: Some(late), ..list_request("box") };
    let late = sg.admin().sandboxes().list_bypass_events(late).await.unwrap().into_inner();
    assert!(late.bypass_events.is_empty() && late.count_by_technique.is_empty(), "{late:?}");
    for (bad, code) in [
        (pb::ListBypassEventsRequest { page_size: -1, ..list_request("box") }, "INVALID_FIELD"),
        (list_request(""), "INVALID_FIELD"),
        (
            pb::ListBypassEventsRequest { sandbox_id: "x".repeat(129), ..list_request("box") },
            "INVALID_FIELD",
        ),
        (list_request("unknown"), "NOT_FOUND"),
    ] {
        let refused = sg.admin().sandboxes().list_bypass_events(bad).await.unwrap_err();
        assert_eq!(reason(&refused), code);
    }
    sg.finish().await;
}

async fn bypass_events_of_a_sandbox_are_limited_in_number_and_time(sg: TestServer) {
    let mut edge = followed(&sg, Generation::V0_1).await;
    let lines = |from: usize, to: usize| (from..to).map(|n| format!("{LINE} {n}"));
    edge.simulator.log_at_once("default", "box", "OCSF", lines(0, STORED_MAX + 10)).unwrap();
    edge.follow(&sg).await;
    assert_eq!(list(&sg, "box").await.dropped, 10);
    // Lines that were counted are not counted again when the end of the log is read again.
    edge.simulator.log_at_once("default", "box", "OCSF", lines(2_000, 2_005)).unwrap();
    edge.follow(&sg).await;
    let found = list(&sg, "box").await;
    assert_eq!(found.dropped, 15);
    let stored = i64::try_from(STORED_MAX).unwrap();
    assert_eq!(found.count_by_technique["nsenter"], stored);
    assert!(found.bypass_events[0].summary.ends_with(" 2004"), "the newest ones are stored");
    sg.app.db.advance_clock(Duration::from_hours(29 * 24));
    while workers::run_once(&sg.app, &RETENTION).await.unwrap().unwrap().more {}
    assert_eq!(list(&sg, "box").await.count_by_technique["nsenter"], stored);
    sg.app.db.advance_clock(Duration::from_hours(2 * 24));
    while workers::run_once(&sg.app, &RETENTION).await.unwrap().unwrap().more {}
    assert!(list(&sg, "box").await.count_by_technique.is_empty());
    sg.finish().await;
}

async fn a_new_sandbox_of_the_same_name_has_no_bypass_events(sg: TestServer) {
    let mut edge = followed(&sg, Generation::V0_1).await;
    edge.simulator.log("default", "box", "OCSF", LINE).unwrap();
    edge.follow(&sg).await;
    let former = list(&sg, "box").await;
    delete_sandbox(&sg, "edge", "box").await;
    wait_until("it is deleted", || async {
        get_sandbox(&sg.admin(), "edge", "box").await.is_err()
    })
    .await;
    assert_eq!(list(&sg, "box").await.bypass_events, former.bypass_events, "they are evidence");
    edge.create(&sg, "box").await;
    for _ in 0..2 {
        edge.follow(&sg).await;
    }
    let new = list(&sg, "box").await;
    assert!(new.bypass_events.is_empty() && new.sandbox_id != former.sandbox_id, "{new:?}");
    let request =
        pb::ListBypassEventsRequest { sandbox_id: former.sandbox_id, ..list_request("box") };
    let old = sg.admin().sandboxes().list_bypass_events(request).await.unwrap().into_inner();
    assert_eq!(old.bypass_events, former.bypass_events);
    sg.finish().await;
}

async fn a_log_that_grows_faster_than_it_is_read_has_a_gap(sg: TestServer) {
    let mut edge = followed(&sg, Generation::V0_1).await;
    let noise = |count: usize| (0..count).map(|n| format!("noise {n}"));
    edge.simulator.log_at_once("default", "box", "INFO", noise(1_990)).unwrap();
    edge.follow(&sg).await;
    assert_eq!(list(&sg, "box").await.log_gaps, 0, "the last line that was read is there");
    edge.simulator.log_at_once("default", "box", "INFO", noise(10_000)).unwrap();
    for _ in 0..2 {
        edge.follow(&sg).await;
        assert_eq!(list(&sg, "box").await.log_gaps, 1);
        assert_eq!(events(&sg, "sandbox.log_gap").await, 1);
    }
    sg.finish().await;
}

/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;

fn now_ms(sg: &TestServer) -> i64 {
    sg.app.clock.now().unix_micros() / 1_000
}

/// Writes lines with a time for each number.
fn write_lines(edge: &Followed, count: i64, time: impl Fn(i64) -> i64) {
    for n in 0..count {
        let line = format!("noise {n}");
        edge.simulator.log_with_time("default", "box", time(n), &line).unwrap();
    }
}

async fn a_flood_after_a_line_ahead(sg: TestServer, is_taken_over: bool) {
    let mut edge = followed(&sg, Generation::V0_0).await;
    write_lines(&edge, 1, |_| now_ms(&sg) + 23 * HOUR_MS);
    edge.follow(&sg).await;
    assert_eq!(list(&sg, "box").await.log_gaps, 0);
    if is_taken_over {
        edge.take_over(&sg);
    }
    // Later than the last read, even if this is done within a millisecond.
    let later = now_ms(&sg) + 1_000;
    write_lines(&edge, 2_100, |_| later);
    for _ in 0..2 {
        edge.follow(&sg).await;
        assert_eq!(list(&sg, "box").await.log_gaps, 1);
        assert_eq!(events(&sg, "sandbox.log_gap").await, 1);
    }
    sg.finish().await;
}

async fn a_line_with_a_time_ahead_hides_no_gap(sg: TestServer) {
    a_flood_after_a_line_ahead(sg, false).await;
}

async fn a_line_with_a_time_ahead_hides_no_gap_from_another_replica(sg: TestServer) {
    a_flood_after_a_line_ahead(sg, true).await;
}

/// Lines with earlier times are not returned, so that the gateway returns fewer than it has.
async fn lines_with_earlier_times_hide_no_gap(sg: TestServer) {
    let mut edge = followed(&sg, Generation::V0_1).await;
    let now = now_ms(&sg);
    let is_earlier = |n: i64| n % 2 == 1;
    let time = move |n: i64| if is_earlier(n) { now - HOUR_MS } else { now };
    write_lines(&edge, 100, time);
    edge.follow(&sg).await;
    assert_eq!(list(&sg, "box").await.log_gaps, 0, "the gateway has dropped no line");
    // Other lines than the first ones.
    write_lines(&edge, 2_100, |n| time(n) + 1);
    for _ in 0..2 {
        edge.follow(&sg).await;
        assert_eq!(list(&sg, "box").await.log_gaps, 1);
    }
    sg.finish().await;
}

async fn a_sandbox_whose_clock_is_ahead_has_no_gap(sg: TestServer) {
    let mut edge = followed(&sg, Generation::V0_1).await;
    let ahead = now_ms(&sg) + 2 * HOUR_MS;
    write_lines(&edge, 1_900, |n| ahead + n);
    edge.follow(&sg).await;
    // All lines that the gateway has are later than the time of each read.
    for burst in 1..5 {
        write_lines(&edge, 50, |n| ahead + 2_000 * burst + n);
        edge.follow(&sg).await;
        assert_eq!(list(&sg, "box").await.log_gaps, 0);
    }
    sg.finish().await;
}

async fn t20_a_gateway_with_too_many_log_lines_is_degraded_without_affecting_others(
    sg: TestServer,
) {
    let mut edge = followed(&sg, Generation::V0_1).await;
    start_gateway(&sg, "quiet", Generation::V0_0).await;
    let status = async |gateway: &str| {
        workers::run_once(&sg.app, &EXCESSES).await.unwrap();
        let request = pb::GetGatewayRequest { gateway: gateway.to_owned() };
        let found = sg.admin().gateways().get_gateway(request).await.unwrap().into_inner();
        found.gateway.unwrap().status()
    };
    let flood = |edge: &Followed| {
        let noise = (0..10_000).map(|n| format!("noise {n}"));
        edge.simulator.log_at_once("default", "box", "INFO", noise).unwrap();
    };
    flood(&edge);
    edge.follow(&sg).await;
    assert_eq!(status("edge").await, pb::GatewayStatus::Healthy, "it may be a burst");
    for _ in 0..2 {
        flood(&edge);
        edge.follow(&sg).await;
        assert_eq!(status("edge").await, pb::GatewayStatus::Degraded);
    }
    assert_eq!(status("quiet").await, pb::GatewayStatus::Healthy);
    assert_eq!(events(&sg, "gateway.over_budget").await, 1);
    // What callers request is not limited by it.
    get_sandbox(&sg.admin(), "edge", "box").await.unwrap();
    sg.finish().await;
}
