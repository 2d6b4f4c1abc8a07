//! Pins through the API: setting, reading and removing them.

use std::time::Duration;

use shoreguard::clock::Timestamp;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::policy_pins::domain::{PINS_OF_GATEWAY_MAX, PINS_OF_SETTER_MAX};
use shoreguard::resources::policy_pins::worker::CLOCK;
use shoreguard::resources::sandboxes::worker::SWEEP;
use shoreguard::resources::write_intents::domain::IN_FLIGHT_MAX;
use shoreguard_simulator::{Generation, Script, Simulator, Times};
use tokio::task::JoinSet;
use tonic::Status;

use crate::boot_hooks::last_event;
use crate::policies::{GATEWAYS, seeded};
use crate::support::gateways::recreate;
use crate::support::server::{Caller, TestServer};
use crate::support::{all_pages, eventually, pause};

pub(crate) const HOUR: Duration = Duration::from_hours(1);
/// A time that no test reaches.
pub(crate) const LATER: &str = "'2999-01-01 00:00:00.000000'";
/// A time before all tests.
pub(crate) const EARLIER: &str = "'2020-01-01 00:00:00.000000'";

/// Returns a request to pin `coder` on `edge`.
pub(crate) fn pin_request(expire_time: Option<prost_types::Timestamp>) -> pb::PinPolicyRequest {
    pb::PinPolicyRequest {
        gateway: "edge".to_owned(),
        sandbox: "coder".to_owned(),
        expire_time,
        ..Default::default()
    }
}

/// Returns the time in some hours.
#[expect(clippy::unnecessary_wraps, reason = "the field of requests is optional")]
pub(crate) fn in_hours(sg: &TestServer, hours: u32) -> Option<prost_types::Timestamp> {
    let at: Timestamp = sg.app.clock.now().plus(HOUR * hours);
    Some(prost_types::Timestamp { seconds: at.unix_seconds(), nanos: 0 })
}

pub(crate) async fn pin(
    caller: &Caller,
    request: pb::PinPolicyRequest,
) -> Result<pb::PinPolicyResponse, Status> {
    Ok(caller.policies().pin_policy(request).await?.into_inner())
}

pub(crate) async fn set(
    caller: &Caller,
    request: pb::PinPolicyRequest,
) -> Result<pb::PolicyPin, Status> {
    Ok(pin(caller, request).await?.policy_pin.unwrap())
}

pub(crate) async fn unpin(caller: &Caller, etag: &str) -> Result<(), Status> {
    let request = pb::UnpinPolicyRequest {
        gateway: "edge".to_owned(),
        sandbox: "coder".to_owned(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    caller.policies().unpin_policy(request).await.map(|_| ())
}

pub(crate) async fn get(
    caller: &Caller,
    gateway: &str,
    sandbox: &str,
) -> Result<pb::PolicyPin, Status> {
    let request = pb::GetPolicyPinRequest {
        gateway: gateway.to_owned(),
        sandbox: sandbox.to_owned(),
        ..Default::default()
    };
    Ok(caller.policies().get_policy_pin(request).await?.into_inner().policy_pin.unwrap())
}

async fn list(caller: &Caller, request: pb::ListPolicyPinsRequest) -> (Vec<String>, String) {
    let page = caller.policies().list_policy_pins(request).await.unwrap().into_inner();
    let name = |pin: pb::PolicyPin| format!("{}/{}/{}", pin.gateway, pin.workspace, pin.sandbox);
    (page.policy_pins.into_iter().map(name).collect(), page.next_page_token)
}

pub(crate) async fn all(caller: &Caller) -> Vec<String> {
    list(caller, pb::ListPolicyPinsRequest::default()).await.0
}

/// Adds a rule, which needs one approval. `scope` is the values of gateway, workspace and sandbox.
async fn add_workflow(sg: &TestServer, scope: &str) {
    let statement = format!(
        "INSERT INTO approval_workflows (gateway_name, workspace, sandbox_name, required_approvals, created_by, \
         created_at, updated_at) VALUES ({scope}, 1, 'root', {EARLIER}, {EARLIER})"
    );
    assert_eq!(sg.sql(&statement).await, 1);
}

/// Adds a write in progress on `edge`.
pub(crate) async fn add_write(sg: &TestServer, workspace: &str, sandbox: &str, deadline: &str) {
    let statement = format!(
        "INSERT INTO write_intents (gateway_id, workspace, sandbox_name, kind, owner, principal, deadline) \
         SELECT id, '{workspace}', '{sandbox}', 'policy.apply', 'replica', 'user:7', {deadline} \
         FROM gateways WHERE name = 'edge'"
    );
    assert_eq!(sg.sql(&statement).await, 1);
}

/// Pins `coder` in a task.
fn start_pin(
    sg: &TestServer,
    reason: &'static str,
) -> JoinSet<Result<pb::PinPolicyResponse, Status>> {
    let admin = sg.connect_admin();
    let request = pb::PinPolicyRequest { reason: reason.to_owned(), ..pin_request(None) };
    let mut pinning = JoinSet::new();
    pinning.spawn(async move { pin(&admin, request).await });
    pinning
}

/// Advances the clock until the task has ended.
pub(crate) async fn join_while_time_passes<T: 'static>(sg: &TestServer, mut task: JoinSet<T>) -> T {
    loop {
        sg.app.clock.advance(Duration::from_secs(1));
        if let Some(ended) = task.try_join_next() {
            return ended.unwrap();
        }
        pause().await;
    }
}

pub(crate) async fn edge(sg: &TestServer) -> Simulator {
    seeded(sg, "edge", Generation::V0_1).await
}

pub(crate) async fn caller(sg: &TestServer, name: &str, role: pb::Role) -> Caller {
    sg.with_token(&sg.admin().create_key(name, role).await)
}

server_tests! {
    a_pin_has_the_state_of_its_sandbox_and_its_setter,
    t01_a_pin_locks_the_next_sandbox_of_its_name,
    a_pin_is_stored_at_once_while_the_gateway_hangs,
    t13_a_pin_waits_for_writes_in_progress_and_names_those_that_are_not_over,
    t13_a_pin_waits_for_more_writes_than_it_names,
    a_pin_is_completed_later_once_no_write_is_in_progress,
    under_a_workflow_a_pin_is_lengthened_and_reviewed_before_it_is_shortened_or_removed,
    requests_about_pins_are_validated,
    pins_are_listed_in_pages_on_the_gateways_that_the_caller_can_see,
    the_number_of_pins_of_a_gateway_is_limited,
    t16_a_setter_below_admin_has_at_most_1000_pins_on_a_gateway,
}

async fn a_pin_has_the_state_of_its_sandbox_and_its_setter(sg: TestServer) {
    let operator = caller(&sg, "ops", pb::Role::Operator).await;
    let viewer = caller(&sg, "looks", pb::Role::Viewer).await;
    for (name, generation) in GATEWAYS {
        let _simulator = seeded(&sg, name, generation).await;
        let request = pb::PinPolicyRequest {
            gateway: name.to_owned(),
            reason: "an incident".to_owned(),
            ..pin_request(in_hours(&sg, 1))
        };
        assert_refused!(pin(&viewer, request.clone()).await, PermissionDenied, "ROLE_TOO_LOW");
        let answer = pin(&operator, request.clone()).await.unwrap();
        assert!(answer.in_flight.is_empty());
        let found = answer.policy_pin.unwrap();
        assert_eq!(
            (found.gateway.as_str(), found.workspace.as_str(), found.sandbox.as_str()),
            (name, "default", "coder")
        );
        assert_eq!((found.pinned_version, found.pinned_by.as_str()), (2, "sp:ops"));
        assert!(!found.pinned_hash.is_empty() && found.pin_time.is_some() && !found.held);
        assert_eq!(
            (found.reason.as_str(), found.setter_role()),
            ("an incident", pb::Role::Operator)
        );
        assert_eq!(found.expire_time, request.expire_time);
        assert_eq!(get(&viewer, name, "coder").await.unwrap(), found);

        let remove = pb::UnpinPolicyRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            etag: "v9".to_owned(),
            ..Default::default()
        };
        let stale = operator.policies().unpin_policy(remove.clone()).await;
        assert_refused!(stale, Aborted, "CONCURRENT_CHANGE");
        let remove = pb::UnpinPolicyRequest { etag: found.etag, ..remove };
        assert_refused!(
            viewer.policies().unpin_policy(remove.clone()).await,
            PermissionDenied,
            "ROLE_TOO_LOW"
        );
        operator.policies().unpin_policy(remove.clone()).await.unwrap();
        assert_refused!(get(&viewer, name, "coder").await, NotFound, "NOT_FOUND");
        assert_refused!(operator.policies().unpin_policy(remove).await, NotFound, "NOT_FOUND");
    }
    let pinned = last_event(&sg.admin(), "policy.pinned").await;
    let payload: serde_json::Value = serde_json::from_str(&pinned.payload_json).unwrap();
    for (key, value) in
        [("gateway", "old"), ("workspace", "default"), ("sandbox", "coder"), ("actor", "sp:ops")]
    {
        assert_eq!(payload[key], value);
    }
    last_event(&sg.admin(), "policy.unpinned").await;
    sg.app.audit.wait_settled().await;
    let entry = sg.admin().audit_entries("coder", "policy.pin").await.remove(0);
    for part in ["\"reason\":\"an incident\"", "\"pinned_version\":2", "\"writes_in_flight\":0"] {
        assert!(entry.detail_json.contains(part), "{entry:?}");
    }
    assert!(!sg.admin().audit_entries("coder", "policy.unpin").await.is_empty());
}

async fn t01_a_pin_locks_the_next_sandbox_of_its_name(sg: TestServer) {
    let edge = edge(&sg).await;
    let admin = sg.admin();
    let unknown = pb::PinPolicyRequest { sandbox: "next".to_owned(), ..pin_request(None) };
    let unknown = set(&admin, unknown).await.unwrap();
    assert_eq!((unknown.pinned_version, unknown.pinned_hash.as_str()), (0, ""));
    assert!(!unknown.held);
    let pinned = set(&admin, pin_request(None)).await.unwrap();
    assert!(!pinned.held);

    recreate(&edge).await;
    sg.run_job(&SWEEP).await;
    let kept = get(&admin, "edge", "coder").await.unwrap();
    assert_eq!(kept, pb::PolicyPin { held: true, ..pinned }, "it is in force for the new one");
    let repeated = set(&admin, pin_request(None)).await.unwrap();
    assert!(!repeated.held, "it names the new one");
}

async fn a_pin_is_stored_at_once_while_the_gateway_hangs(sg: TestServer) {
    let edge = edge(&sg).await;
    edge.script("GetSandbox", Script::Hang, Times::All);
    let admin = sg.admin();
    let mut pinning = start_pin(&sg, "");
    eventually("it is stored", || async { get(&admin, "edge", "coder").await.is_ok() }).await;
    assert!(pinning.try_join_next().is_none(), "it waits for the gateway");
    eventually("the gateway is called", || async {
        edge.calls().keys().any(|path| path.ends_with("/GetSandbox"))
    })
    .await;
    let found = join_while_time_passes(&sg, pinning).await.unwrap().policy_pin.unwrap();
    assert_eq!((found.pinned_version, found.pinned_hash.as_str()), (0, ""));
    edge.clear_scripts();
    let completed = set(&admin, pin_request(None)).await.unwrap();
    assert_eq!((completed.pinned_version, completed.pinned_hash.is_empty()), (2, false));
}

async fn t13_a_pin_waits_for_writes_in_progress_and_names_those_that_are_not_over(sg: TestServer) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    add_write(&sg, "default", "coder", LATER).await;
    add_write(&sg, "default", "", LATER).await;
    add_write(&sg, "", "", LATER).await;
    for (workspace, sandbox) in [("default", "other"), ("other", ""), ("other", "coder")] {
        add_write(&sg, workspace, sandbox, LATER).await;
    }
    add_write(&sg, "default", "coder", EARLIER).await;
    let pinning = start_pin(&sg, "");
    eventually("it is stored", || async { get(&admin, "edge", "coder").await.is_ok() }).await;
    let answer = join_while_time_passes(&sg, pinning).await.unwrap();
    let named: Vec<_> = answer
        .in_flight
        .iter()
        .map(|write| (write.workspace.as_str(), write.sandbox.as_str()))
        .collect();
    assert_eq!(named, [("default", "coder"), ("default", ""), ("", "")]);
    let write = &answer.in_flight[0];
    assert_eq!((write.action.as_str(), write.principal.as_str()), ("policy.apply", "user:7"));
    assert_eq!(answer.policy_pin.unwrap().pinned_version, 0, "the policy may still change");

    let before = get(&admin, "edge", "coder").await.unwrap().etag;
    let pinning = start_pin(&sg, "again");
    eventually("it is stored again", || async {
        get(&admin, "edge", "coder").await.unwrap().etag != before
    })
    .await;
    sg.sql("DELETE FROM write_intents").await;
    let answer = pinning.join_all().await.remove(0).unwrap();
    assert!(answer.in_flight.is_empty());
    assert_eq!(answer.policy_pin.unwrap().pinned_version, 2);
}

async fn t13_a_pin_waits_for_more_writes_than_it_names(sg: TestServer) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    for _ in 0..=IN_FLIGHT_MAX {
        add_write(&sg, "default", "coder", LATER).await;
    }
    let answer = join_while_time_passes(&sg, start_pin(&sg, "")).await.unwrap();
    assert_eq!(answer.in_flight.len(), IN_FLIGHT_MAX);

    let before = answer.policy_pin.unwrap().etag;
    let pinning = start_pin(&sg, "again");
    eventually("it is stored again", || async {
        get(&admin, "edge", "coder").await.unwrap().etag != before
    })
    .await;
    let all_but_the_newest =
        "DELETE FROM write_intents WHERE id < (SELECT max(id) FROM write_intents)";
    assert_eq!(sg.sql(all_but_the_newest).await, IN_FLIGHT_MAX);
    let answer = join_while_time_passes(&sg, pinning).await.unwrap();
    assert_eq!(answer.in_flight.len(), 1, "the newest is not over");
}

async fn a_pin_is_completed_later_once_no_write_is_in_progress(sg: TestServer) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    add_write(&sg, "default", "coder", LATER).await;
    let answer = join_while_time_passes(&sg, start_pin(&sg, "")).await.unwrap();
    let pinned = answer.policy_pin.unwrap();
    sg.run_job(&CLOCK).await;
    assert_eq!(get(&admin, "edge", "coder").await.unwrap(), pinned, "the write may still happen");
    sg.sql("DELETE FROM write_intents").await;
    sg.run_job(&CLOCK).await;
    let completed = get(&admin, "edge", "coder").await.unwrap();
    assert_eq!((completed.pinned_version, completed.etag), (2, pinned.etag));
    assert!(!completed.pinned_hash.is_empty());
}

async fn under_a_workflow_a_pin_is_lengthened_and_reviewed_before_it_is_shortened_or_removed(
    sg: TestServer,
) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    set(&admin, pin_request(in_hours(&sg, 2))).await.unwrap();
    for scope in ["'edge', NULL, NULL", "'edge', 'default', NULL", "'edge', 'default', 'coder'"] {
        add_workflow(&sg, scope).await;
        let shorter = set(&admin, pin_request(in_hours(&sg, 1))).await;
        assert_refused!(shorter, FailedPrecondition, "APPROVAL_REQUIRED");
        assert_refused!(unpin(&admin, "").await, FailedPrecondition, "APPROVAL_REQUIRED");
        assert_eq!(all(&admin).await, ["edge/default/coder"], "it is not removed yet");
        set(&admin, pin_request(in_hours(&sg, 2))).await.unwrap();
        sg.sql("DELETE FROM approval_workflows").await;
    }
    add_workflow(&sg, "'edge', 'other', NULL").await;
    add_workflow(&sg, "'edge', 'default', 'other'").await;
    set(&admin, pin_request(in_hours(&sg, 1))).await.unwrap();
    unpin(&admin, "").await.unwrap();
}

async fn requests_about_pins_are_validated(sg: TestServer) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    let most = "\u{e4}".repeat(1_000);
    let with_reason =
        |reason: &str| pb::PinPolicyRequest { reason: reason.to_owned(), ..pin_request(None) };
    let ends = |seconds, nanos| pin_request(Some(prost_types::Timestamp { seconds, nanos }));
    let place = |workspace: &str, sandbox: &str| pb::PinPolicyRequest {
        workspace: workspace.to_owned(),
        sandbox: sandbox.to_owned(),
        ..pin_request(None)
    };
    for (bad, field) in [
        (pb::PinPolicyRequest { gateway: String::new(), ..pin_request(None) }, "gateway"),
        (place("", ""), "sandbox"),
        (place("", "a/b"), "sandbox"),
        (place("", &"a".repeat(254)), "sandbox"),
        (place("-a", "coder"), "workspace"),
        (with_reason(&format!("{most}a")), "reason"),
        (with_reason("a\nb"), "reason"),
        (ends(sg.app.clock.now().unix_seconds(), 0), "expire_time"),
        (ends(0, 0), "expire_time"),
        (ends(i64::MAX, 0), "expire_time"),
        (ends(4_000_000_000, -1), "expire_time"),
    ] {
        let refused = assert_refused!(pin(&admin, bad).await, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains(&format!("`{field}`")), "{field}: {refused:?}");
    }
    assert!(all(&admin).await.is_empty(), "nothing is stored");
    let hidden = pb::PinPolicyRequest { gateway: "nowhere".to_owned(), ..pin_request(None) };
    assert_refused!(pin(&admin, hidden).await, NotFound, "NOT_FOUND");
    let limit = pb::PinPolicyRequest { workspace: "a".repeat(253), ..with_reason(&most) };
    assert_eq!(set(&admin, limit).await.unwrap().reason, most);

    let list = |request: pb::ListPolicyPinsRequest| {
        let mut client = admin.policies();
        async move { client.list_policy_pins(request).await }
    };
    let long = "a".repeat(254);
    for bad in [
        pb::ListPolicyPinsRequest { page_size: -1, ..Default::default() },
        pb::ListPolicyPinsRequest { page_token: "x".to_owned(), ..Default::default() },
        pb::ListPolicyPinsRequest { gateway: long.clone(), ..Default::default() },
        pb::ListPolicyPinsRequest { workspace: long, ..Default::default() },
    ] {
        assert_refused!(list(bad).await, InvalidArgument, "INVALID_FIELD");
    }
    let hidden = pb::ListPolicyPinsRequest { gateway: "nowhere".to_owned(), ..Default::default() };
    assert_refused!(list(hidden).await, NotFound, "NOT_FOUND");
}

async fn pins_are_listed_in_pages_on_the_gateways_that_the_caller_can_see(sg: TestServer) {
    let admin = sg.admin();
    // Both before the first pin: a gateway with a rule gets no second name.
    for gateway in ["edge", "west"] {
        sg.register_unreachable(gateway).await;
    }
    for gateway in ["edge", "west"] {
        for (workspace, sandbox) in [("", "one"), ("team", "two")] {
            let request = pb::PinPolicyRequest {
                gateway: gateway.to_owned(),
                workspace: workspace.to_owned(),
                sandbox: sandbox.to_owned(),
                ..Default::default()
            };
            set(&admin, request).await.unwrap();
        }
    }
    let expected = ["edge/default/one", "edge/team/two", "west/default/one", "west/team/two"]
        .map(str::to_owned);
    assert_eq!(all(&admin).await, expected);
    let found = all_pages(async |page_token| {
        let request = pb::ListPolicyPinsRequest { page_size: 3, page_token, ..Default::default() };
        list(&admin, request).await
    });
    assert_eq!(found.await, expected);
    let in_team = pb::ListPolicyPinsRequest { workspace: "team".to_owned(), ..Default::default() };
    assert_eq!(list(&admin, in_team).await.0, [&*expected[1], &*expected[3]]);
    let of_west = pb::ListPolicyPinsRequest { gateway: "west".to_owned(), ..Default::default() };
    assert_eq!(list(&admin, of_west.clone()).await.0, expected[2..]);

    let here = caller(&sg, "here", pb::Role::None).await;
    admin.bind("here", "edge", pb::Role::Viewer).await;
    assert_eq!(all(&here).await, expected[..2]);
    let hidden = here.policies().list_policy_pins(of_west).await;
    assert_refused!(hidden, NotFound, "NOT_FOUND");
    assert_refused!(get(&here, "west", "one").await, NotFound, "NOT_FOUND");
}

async fn the_number_of_pins_of_a_gateway_is_limited(sg: TestServer) {
    let _edge = edge(&sg).await;
    let filled = PINS_OF_GATEWAY_MAX - 1;
    let statement = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {filled}) \
         INSERT INTO policy_pins (gateway_name, sandbox_name, pinned_version, pinned_by, pinned_at, setter_role) \
         SELECT name, 's' || i, 0, 'root', registered_at, 'admin' FROM n, gateways WHERE name = 'edge'"
    );
    sg.sql(&statement).await;
    let admin = sg.admin();
    set(&admin, pin_request(None)).await.unwrap();
    let over = pb::PinPolicyRequest { sandbox: "over".to_owned(), ..pin_request(None) };
    assert_refused!(pin(&admin, over).await, FailedPrecondition, "LIMIT_REACHED");
    set(&admin, pin_request(None)).await.expect("a repeated pin needs no room");
}

async fn t16_a_setter_below_admin_has_at_most_1000_pins_on_a_gateway(sg: TestServer) {
    let _edge = edge(&sg).await;
    let mason = caller(&sg, "mason", pb::Role::Operator).await;
    let filled = PINS_OF_SETTER_MAX - 1;
    let statement = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {filled}) \
         INSERT INTO policy_pins \
         (gateway_name, sandbox_name, pinned_version, pinned_by, pinned_at, principal, setter_role) \
         SELECT g.name, 's' || i, 0, 'sp:mason', g.registered_at, 'service_principal:' || p.id, 'operator' \
         FROM n, gateways g, service_principals p WHERE g.name = 'edge' AND p.name = 'mason'"
    );
    sg.sql(&statement).await;
    set(&mason, pin_request(None)).await.unwrap();
    let over = pb::PinPolicyRequest { sandbox: "over".to_owned(), ..pin_request(None) };
    assert_refused!(pin(&mason, over.clone()).await, FailedPrecondition, "LIMIT_REACHED");
    set(&mason, pin_request(None)).await.expect("a repeated pin needs no room");
    let other = caller(&sg, "other", pb::Role::Operator).await;
    set(&other, over).await.expect("the pins of other setters do not count");
}
