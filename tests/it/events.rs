//! Events: readers can resume from one total order, and each reader sees only permitted events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use diesel_async::RunQueryDsl;
use serde_json::json;
use shoreguard::app::App;
use shoreguard::db::on_conn;
use shoreguard::db::types::{GatewayId, GatewayRef};
use shoreguard::outbox::event_types::Audience;
use shoreguard::outbox::{self, EventType, NewEvent, event_types};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::events::worker;
use shoreguard::resources::webhooks::worker::FANOUT;
use shoreguard::role::Role;
use shoreguard::workers;

use crate::proxy::raw::{RawClient, encode_framed};
use crate::support::server::TestServer;

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
const WRITERS: u64 = 8;
const EACH: u64 = 20;

fn of(id: GatewayId, name: &str) -> GatewayRef {
    GatewayRef { id, name: name.into() }
}

/// Writes an event, of a gateway or without one, in a transaction that is kept open for a while.
async fn write(app: &App, on: Option<GatewayRef>, what: &str, held: Duration) {
    write_as(app, event_types::SANDBOX_STARTED, on, what, held).await;
}

async fn write_as(
    app: &App,
    event_type: EventType,
    on: Option<GatewayRef>,
    what: &str,
    held: Duration,
) {
    let event = NewEvent {
        event_type,
        gateway: on,
        actor: "tester".into(),
        payload: json!({ "what": what }),
        at: app.clock.now(),
    };
    app.db
        .transaction(async |conn| {
            outbox::enqueue(conn, event).await?;
            tokio::time::sleep(held).await;
            Ok(())
        })
        .await
        .unwrap();
    app.feed.notify_committed();
}

/// Assigns sequence numbers to the written events.
async fn number(app: &Arc<App>) {
    workers::run_once(app, &worker::SEQUENCER).await.unwrap();
}

fn ask(after_sequence: i64) -> pb::ListEventsRequest {
    pb::ListEventsRequest { after_sequence, page_size: 1_000, ..Default::default() }
}

fn watch(after_sequence: i64) -> pb::WatchEventsRequest {
    pb::WatchEventsRequest { after_sequence, ..Default::default() }
}

/// A watch from now on. It selects the events of the test, since events of its setup may not have a sequence number
/// yet.
fn from_now() -> pb::WatchEventsRequest {
    pb::WatchEventsRequest { names: vec!["sandbox.started".to_owned()], ..watch(-1) }
}

fn id(gateway: &pb::Gateway) -> GatewayId {
    GatewayId(gateway.id)
}

fn payloads(events: &[pb::Event]) -> Vec<&str> {
    events
        .iter()
        .filter(|event| event.name == "sandbox.started")
        .map(|event| event.payload_json.as_str())
        .collect()
}

/// Runs many writers concurrently, spread over `apps`. Returns what they have written, sorted.
async fn flood(apps: &[Arc<App>]) -> Vec<String> {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let app = Arc::clone(&apps[usize::try_from(writer).unwrap() % apps.len()]);
        writers.spawn(async move {
            let mut written = Vec::new();
            for n in 0..EACH {
                let what = format!("{writer}-{n}");
                // Pseudo-random, and the same in each run.
                let held = Duration::from_micros((writer * 7_919 + n * 104_729) % 4_000);
                write(&app, None, &what, held).await;
                written.push(json!({ "what": what }).to_string());
            }
            written
        });
    }
    let mut written = writers.join_all().await.concat();
    written.sort();
    written
}

server_tests! {
    a_reader_misses_no_event_of_concurrent_writers,
    a_reader_gets_only_the_events_of_its_gateways,
    an_event_of_each_type_is_readable_from_the_least_role_of_its_type,
    a_stream_follows_role_changes_of_its_reader,
    buffered_events_of_a_gateway_are_dropped_if_the_reader_loses_access,
    buffered_events_for_global_admins_are_dropped_if_the_reader_is_no_longer_one,
    a_request_for_invisible_gateways_or_invalid_cursors_is_refused,
    event_pages_continue_after_the_previous_page,
    a_long_run_of_invisible_events_does_not_block_a_call,
    a_cursor_older_than_the_retention_is_out_of_range,
}

async fn a_reader_misses_no_event_of_concurrent_writers(sg: TestServer) {
    let mut apps = vec![Arc::clone(&sg.app)];
    let mut second = None;
    if sg.engine == shoreguard::db::Engine::Postgres {
        let (app, running) = sg.start_replica().await;
        apps.push(Arc::clone(&app));
        second = Some((app, running));
    }
    let mut stream = sg.admin().events().watch_events(watch(0)).await.unwrap().into_inner();
    let reader = sg.app.spawn(async move {
        let mut last = 0;
        let mut seen = Vec::new();
        while seen.len() < usize::try_from(WRITERS * EACH).unwrap() {
            let next = stream.message().await.unwrap().unwrap();
            let event = next.event.unwrap();
            assert_eq!((event.sequence, next.sequence), (last + 1, last + 1), "a gap or a skip");
            last = event.sequence;
            if event.name == "sandbox.started" {
                seen.push(event.payload_json);
            }
        }
        seen.sort();
        seen
    });
    let written = flood(&apps).await;
    assert_eq!(reader.await.unwrap(), written);
    drop(apps);
    if let Some((app, running)) = second {
        app.stop.cancel();
        running.stopped().await;
        app.drain().await;
    }
    sg.finish().await;
}

async fn a_reader_gets_only_the_events_of_its_gateways(sg: TestServer) {
    let (edge, core) =
        (sg.register_gateway("edge", NOWHERE).await, sg.register_gateway("core", NOWHERE).await);
    let key = sg.admin().create_key("ci", pb::Role::None).await;
    sg.admin().bind("ci", "edge", pb::Role::Viewer).await;
    let everywhere = sg.admin().create_key("everywhere", pb::Role::Viewer).await;
    let mut stream =
        sg.with_token(&key).events().watch_events(from_now()).await.unwrap().into_inner();

    write(&sg.app, Some(of(id(&core), "core")), "core", Duration::ZERO).await;
    write(&sg.app, None, "global", Duration::ZERO).await;
    write(&sg.app, Some(of(id(&edge), "edge")), "edge", Duration::ZERO).await;
    let seen = stream.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!((seen.payload_json.as_str(), seen.gateway.as_str()), (r#"{"what":"edge"}"#, "edge"));

    let of = async |key: &str, request: pb::ListEventsRequest| {
        sg.with_token(key).events().list_events(request).await.unwrap().into_inner()
    };
    let page = of(&key, ask(0)).await;
    assert_eq!(payloads(&page.events), [r#"{"what":"edge"}"#]);
    assert!(page.events.iter().all(|event| event.gateway == "edge"));
    assert!(page.next_after_sequence >= seen.sequence && !page.more);
    let page = of(&everywhere, ask(0)).await;
    assert_eq!(payloads(&page.events), [r#"{"what":"core"}"#, r#"{"what":"edge"}"#]);
    let page = of(&sg.admin_key, ask(0)).await;
    assert_eq!(payloads(&page.events).len(), 3);
    let page = of(&sg.admin_key, pb::ListEventsRequest { gateway: "core".into(), ..ask(0) }).await;
    assert_eq!(payloads(&page.events), [r#"{"what":"core"}"#]);
    let named = pb::ListEventsRequest { names: vec!["gateway.registered".into()], ..ask(0) };
    let page = of(&sg.admin_key, named).await;
    assert_eq!(page.events.len(), 2);
    sg.finish().await;
}

async fn an_event_of_each_type_is_readable_from_the_least_role_of_its_type(sg: TestServer) {
    let edge = sg.register_gateway("edge", NOWHERE).await;
    sg.register_gateway("core", NOWHERE).await;
    let admin = sg.admin();
    let mut readers = vec![(sg.admin_key.clone(), None)];
    for (name, gateway, role, least) in [
        ("viewer", "edge", pb::Role::Viewer, Role::Viewer),
        ("operator", "edge", pb::Role::Operator, Role::Operator),
        ("admin", "edge", pb::Role::Admin, Role::Admin),
        ("elsewhere", "core", pb::Role::Admin, Role::None),
    ] {
        let key = admin.create_key(name, pb::Role::None).await;
        admin.bind(name, gateway, role).await;
        readers.push((key, Some(least)));
    }
    let at = sg.app.clock.now();
    sg.app
        .db
        .transaction(async |conn| {
            for (event_type, _) in event_types::ALL {
                let event = NewEvent {
                    event_type: *event_type,
                    gateway: Some(of(id(&edge), "edge")),
                    actor: "walker".into(),
                    payload: json!({}),
                    at,
                };
                outbox::enqueue(conn, event).await?;
            }
            Ok(())
        })
        .await
        .unwrap();
    number(&sg.app).await;
    for (key, role) in readers {
        let page = sg.with_token(&key).events().list_events(ask(0)).await.unwrap().into_inner();
        let seen = page.events.iter().filter(|event| event.actor == "walker");
        let seen: Vec<&str> = seen.map(|event| event.name.as_str()).collect();
        let is_readable = |audience| match (audience, role) {
            (_, None) => true,
            (Audience::Gateway(least), Some(role)) => least <= role,
            (Audience::GlobalAdmins, Some(_)) => false,
        };
        let types = event_types::ALL.iter().map(|(event_type, _)| event_type);
        let expected = types.filter(|event_type| is_readable(event_type.audience()));
        let expected: Vec<&str> = expected.map(|event_type| event_type.name()).collect();
        assert_eq!(seen, expected, "{role:?}");
    }
    sg.finish().await;
}

async fn a_stream_follows_role_changes_of_its_reader(sg: TestServer) {
    let (edge, core) =
        (sg.register_gateway("edge", NOWHERE).await, sg.register_gateway("core", NOWHERE).await);
    let key = sg.admin().create_key("ci", pb::Role::None).await;
    for gateway in ["edge", "core"] {
        sg.admin().bind("ci", gateway, pb::Role::Viewer).await;
    }
    let mut stream =
        sg.with_token(&key).events().watch_events(from_now()).await.unwrap().into_inner();
    write(&sg.app, Some(of(id(&core), "core")), "seen", Duration::ZERO).await;
    let seen = stream.message().await.unwrap().unwrap();
    assert_eq!(seen.event.unwrap().payload_json, r#"{"what":"seen"}"#);

    sg.admin().bind("ci", "core", pb::Role::None).await;
    write(&sg.app, Some(of(id(&core), "core")), "hidden", Duration::ZERO).await;
    let moved = stream.message().await.unwrap().unwrap();
    assert!(moved.event.is_none() && moved.sequence > seen.sequence, "only the cursor moves");
    write(&sg.app, Some(of(id(&edge), "edge")), "edge", Duration::ZERO).await;
    loop {
        if let Some(event) = stream.message().await.unwrap().unwrap().event {
            assert_eq!(event.payload_json, r#"{"what":"edge"}"#);
            break;
        }
    }
    sg.finish().await;
}

async fn buffered_events_of_a_gateway_are_dropped_if_the_reader_loses_access(sg: TestServer) {
    let (edge, core) =
        (sg.register_gateway("edge", NOWHERE).await, sg.register_gateway("core", NOWHERE).await);
    let key = sg.admin().create_key("ci", pb::Role::None).await;
    for gateway in ["edge", "core"] {
        sg.admin().bind("ci", gateway, pb::Role::Viewer).await;
    }
    let on = |gateway: &pb::Gateway| Some(of(id(gateway), &gateway.name));
    let mut quick =
        sg.with_token(&key).events().watch_events(from_now()).await.unwrap().into_inner();
    // Receives one byte at a time.
    let mut raw = RawClient::connect_with_window(&sg, &key, 1).await;
    let (response, mut request) = raw.open(raw.post("/shoreguard.v1.EventService/WatchEvents"));
    request.send_data(encode_framed(&from_now()), true).unwrap();
    let mut slow = response.await.unwrap().into_body();
    write(&sg.app, on(&edge), "first", Duration::ZERO).await;
    let mut read = slow.data().await.unwrap().unwrap().to_vec();
    for n in 0..12 {
        write(&sg.app, on(&core), &format!("core-{n}"), Duration::ZERO).await;
    }
    loop {
        let event = quick.message().await.unwrap().unwrap().event;
        if event.is_some_and(|event| event.payload_json.contains("core-11")) {
            break;
        }
    }
    sg.admin().bind("ci", "core", pb::Role::None).await;
    write(&sg.app, on(&edge), "last", Duration::ZERO).await;
    while !String::from_utf8_lossy(&read).contains("last") {
        slow.flow_control().release_capacity(1).unwrap();
        read.extend(slow.data().await.unwrap().unwrap());
    }
    let read = String::from_utf8_lossy(&read);
    // The first of these events may already have been sent on the connection.
    assert!(read.contains("first") && !read.contains("core-11"), "{read}");
    sg.finish().await;
}

async fn buffered_events_for_global_admins_are_dropped_if_the_reader_is_no_longer_one(
    sg: TestServer,
) {
    let edge = sg.register_gateway("edge", NOWHERE).await;
    let key = sg.admin().create_key("ci", pb::Role::Admin).await;
    // It stays admin of the gateway of the events.
    sg.admin().bind("ci", "edge", pb::Role::Admin).await;
    let on_edge = || Some(of(id(&edge), "edge"));
    let wanted = || pb::WatchEventsRequest {
        names: vec!["sandbox.started".to_owned(), "device_code.approved".to_owned()],
        ..watch(-1)
    };
    let mut quick = sg.with_token(&key).events().watch_events(wanted()).await.unwrap().into_inner();
    // Receives one byte at a time.
    let mut raw = RawClient::connect_with_window(&sg, &key, 1).await;
    let (response, mut request) = raw.open(raw.post("/shoreguard.v1.EventService/WatchEvents"));
    request.send_data(encode_framed(&wanted()), true).unwrap();
    let mut slow = response.await.unwrap().into_body();
    write(&sg.app, on_edge(), "first", Duration::ZERO).await;
    let mut read = slow.data().await.unwrap().unwrap().to_vec();
    for n in 0..6 {
        write(&sg.app, None, &format!("global-{n}"), Duration::ZERO).await;
        let (device, what) = (event_types::DEVICE_CODE_APPROVED, format!("device-{n}"));
        write_as(&sg.app, device, on_edge(), &what, Duration::ZERO).await;
    }
    loop {
        let event = quick.message().await.unwrap().unwrap().event;
        if event.is_some_and(|event| event.payload_json.contains("device-5")) {
            break;
        }
    }
    let lower = pb::UpdateServicePrincipalRequest {
        service_principal: "ci".to_owned(),
        role: pb::Role::Viewer.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["role".to_owned()] }),
        ..Default::default()
    };
    sg.admin().service_principals().update_service_principal(lower).await.unwrap();
    write(&sg.app, on_edge(), "last", Duration::ZERO).await;
    while !String::from_utf8_lossy(&read).contains("last") {
        slow.flow_control().release_capacity(1).unwrap();
        read.extend(slow.data().await.unwrap().unwrap());
    }
    let read = String::from_utf8_lossy(&read);
    // The first of these events may already have been sent on the connection.
    assert!(read.contains("first"), "{read}");
    for dropped in ["global-5", "device-5"] {
        assert!(!read.contains(dropped), "{dropped}: {read}");
    }
    sg.finish().await;
}

async fn a_request_for_invisible_gateways_or_invalid_cursors_is_refused(sg: TestServer) {
    sg.register_gateway("core", NOWHERE).await;
    let key = sg.admin().create_key("ci", pb::Role::None).await;
    sg.register_gateway("edge", NOWHERE).await;
    sg.admin().bind("ci", "edge", pb::Role::Viewer).await;
    let events = || sg.with_token(&key).events();
    let request = pb::ListEventsRequest { gateway: "core".into(), ..ask(0) };
    assert_refused!(events().list_events(request).await, NotFound, "NOT_FOUND");
    let request = pb::ListEventsRequest { names: vec!["x".into(); 51], ..ask(0) };
    assert_refused!(events().list_events(request).await, InvalidArgument, "INVALID_FIELD");
    let request = pb::ListEventsRequest { names: vec!["x".into(); 50], ..ask(0) };
    events().list_events(request).await.unwrap();
    for cursor in [-1, i64::MIN, i64::MAX] {
        assert_refused!(events().list_events(ask(cursor)).await, InvalidArgument, "INVALID_FIELD");
    }
    assert_refused!(events().watch_events(watch(-2)).await, InvalidArgument, "INVALID_FIELD");
    assert_refused!(
        sg.anonymous().events().list_events(ask(0)).await,
        Unauthenticated,
        "CREDENTIAL_MISSING"
    );
    sg.finish().await;
}

async fn event_pages_continue_after_the_previous_page(sg: TestServer) {
    for n in 0..5 {
        write(&sg.app, None, &n.to_string(), Duration::ZERO).await;
    }
    number(&sg.app).await;
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let request = pb::ListEventsRequest { page_size: 2, ..ask(after) };
        let page = sg.admin().events().list_events(request).await.unwrap().into_inner();
        seen.extend(page.events.iter().map(|event| event.sequence));
        after = page.next_after_sequence;
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, (1..=after).collect::<Vec<_>>());
    sg.finish().await;
}

async fn a_long_run_of_invisible_events_does_not_block_a_call(sg: TestServer) {
    sg.register_gateway("edge", NOWHERE).await;
    let key = sg.admin().create_key("ci", pb::Role::None).await;
    sg.admin().bind("ci", "edge", pb::Role::Viewer).await;
    number(&sg.app).await;
    let head =
        sg.admin().events().list_events(ask(0)).await.unwrap().into_inner().next_after_sequence;
    let sql = format!(
        "INSERT INTO events (sequence, name, payload_json, occurred_at) \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) \
             SELECT i + {head}, 'x.y', '{{}}', CURRENT_TIMESTAMP FROM n"
    );
    let moved = format!("UPDATE event_head SET sequence = {head} + 12000");
    sg.app
        .db
        .transaction(async |conn| {
            for sql in [&sql, &moved] {
                on_conn!(conn, |c| diesel::sql_query(sql).execute(c).await)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let events = || sg.with_token(&key).events();
    let page = events().list_events(ask(head)).await.unwrap().into_inner();
    assert_eq!((page.events.len(), page.next_after_sequence, page.more), (0, head + 10_000, true));
    let page = events().list_events(ask(page.next_after_sequence)).await.unwrap().into_inner();
    assert_eq!((page.events.len(), page.next_after_sequence, page.more), (0, head + 12_000, false));
    sg.finish().await;
}

async fn a_cursor_older_than_the_retention_is_out_of_range(sg: TestServer) {
    for n in 0..3 {
        write(&sg.app, None, &n.to_string(), Duration::ZERO).await;
    }
    number(&sg.app).await;
    let list = async |after| sg.admin().events().list_events(ask(after)).await;
    let head = list(0).await.unwrap().into_inner().next_after_sequence;

    sg.pass(Duration::from_hours(24 * 31)).await;
    // Events are not deleted before they are queued for webhooks.
    sg.run_job(&FANOUT).await;
    // Expires the lease of the worker that runs beside the test.
    sg.app.db.advance_clock(Duration::from_secs(31));
    let worked = workers::run_once(&sg.app, &worker::RETENTION).await.unwrap().unwrap();
    assert_eq!(i64::try_from(worked.done).unwrap(), head);

    let late = assert_refused!(list(1).await, OutOfRange, "CURSOR_EXPIRED");
    assert!(late.message().contains(&format!("sequence {} ", head + 1)), "{late:?}");
    let page = list(head).await.unwrap().into_inner();
    assert_eq!((page.events.len(), page.next_after_sequence), (0, head));
    let page = list(0).await.unwrap().into_inner();
    assert_eq!((page.events.len(), page.next_after_sequence), (0, head));

    write(&sg.app, None, "young", Duration::ZERO).await;
    number(&sg.app).await;
    let page = list(0).await.unwrap().into_inner();
    assert_eq!(page.events[0].sequence, head + 1);
    sg.finish().await;
}
