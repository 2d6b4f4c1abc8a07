//! Approval workflows through the API: setting, reading, refusals, and what a gateway cannot prevent.

use shoreguard::pb::v1 as pb;
use shoreguard::resources::approval_workflows::domain::WORKFLOWS_MAX;
use shoreguard::resources::gateways::findings::CHECKS;
use shoreguard_simulator::{Script, Times};
use tokio::task::JoinSet;
use tonic::Status;

use crate::approvals::fact;
use crate::boot_hooks::last_event;
use crate::gateway_settings::behind_our_back;
use crate::policies::{GATEWAYS, seeded};
use crate::policy_pins::{
    EARLIER, LATER, add_write, caller, edge, join_while_time_passes, pin, pin_request, unpin,
};
use crate::support::server::{Caller, TestServer};
use crate::support::{all_pages, eventually};

/// Returns voters who are named.
pub(crate) fn named(users: &[&str], groups: &[&str], programs: &[&str]) -> pb::VoterSet {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    pb::VoterSet {
        role: pb::Role::Unspecified.into(),
        users: all(users),
        groups: all(groups),
        service_principals: all(programs),
    }
}

/// Returns a rule whose groups must all be met.
pub(crate) fn rule(groups: &[(&str, u32, pb::VoterSet)]) -> pb::ApprovalRule {
    let groups = groups.iter().map(|(name, required, voters)| pb::VoterGroup {
        name: (*name).to_owned(),
        required: *required,
        voters: Some(voters.clone()),
    });
    pb::ApprovalRule { groups: groups.collect(), ..Default::default() }
}

/// Returns a rule of a number of operators.
pub(crate) fn operators(required: u32) -> pb::ApprovalRule {
    rule(&[("approvers", required, pb::VoterSet::default())])
}

/// Returns a request to set a rule on `edge`.
pub(crate) fn request(
    workspace: &str,
    sandbox: &str,
    rule: pb::ApprovalRule,
) -> pb::SetWorkflowRequest {
    pb::SetWorkflowRequest {
        gateway: "edge".to_owned(),
        workspace: workspace.to_owned(),
        sandbox: sandbox.to_owned(),
        rule: Some(rule),
        ..Default::default()
    }
}

pub(crate) async fn set(
    caller: &Caller,
    request: pb::SetWorkflowRequest,
) -> Result<pb::SetWorkflowResponse, Status> {
    Ok(caller.approval_workflows().set_workflow(request).await?.into_inner())
}

async fn get(
    caller: &Caller,
    workspace: &str,
    sandbox: &str,
) -> Result<pb::ApprovalWorkflow, Status> {
    let request = pb::GetWorkflowRequest {
        gateway: "edge".to_owned(),
        workspace: workspace.to_owned(),
        sandbox: sandbox.to_owned(),
        ..Default::default()
    };
    let found = caller.approval_workflows().get_workflow(request).await?.into_inner();
    Ok(found.approval_workflow.unwrap())
}

async fn delete(caller: &Caller, sandbox: &str, etag: &str) -> Result<(), Status> {
    let request = pb::DeleteWorkflowRequest {
        gateway: "edge".to_owned(),
        sandbox: sandbox.to_owned(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    caller.approval_workflows().delete_workflow(request).await.map(|_| ())
}

async fn list(caller: &Caller, request: pb::ListWorkflowsRequest) -> (Vec<String>, String) {
    let page = caller.approval_workflows().list_workflows(request).await.unwrap().into_inner();
    let name = |of: pb::ApprovalWorkflow| format!("{}/{}/{}", of.gateway, of.workspace, of.sandbox);
    (page.approval_workflows.into_iter().map(name).collect(), page.next_page_token)
}

/// Sets a workflow in a task.
fn start_set(
    sg: &TestServer,
    request: pb::SetWorkflowRequest,
) -> JoinSet<Result<pb::SetWorkflowResponse, Status>> {
    let admin = sg.connect_admin();
    let mut setting = JoinSet::new();
    setting.spawn(async move { set(&admin, request).await });
    setting
}

/// Creates operators with these names.
async fn staff(sg: &TestServer, names: &[&str]) {
    for name in names {
        sg.create_user(&format!("{name}@example.com"), pb::Role::Operator).await;
    }
}

server_tests! {
    a_workflow_is_set_and_returned_with_the_names_of_its_voters,
    g07_a_weaker_or_deleted_workflow_is_reviewed_and_a_tighter_one_is_not,
    bad_input_is_refused_with_its_field_and_stores_nothing,
    g09_a_rule_is_stored_at_once_while_the_gateway_hangs,
    g09_writes_in_progress_are_named,
    an_automatic_approval_mode_is_a_warning,
    an_automatic_approval_mode_that_is_known_refuses_a_rule_at_once,
    the_approval_mode_of_each_sandbox_in_the_scope_is_read,
    a_validated_rule_is_not_stored,
    workflows_are_listed_in_pages_on_the_gateways_that_the_caller_can_see,
    g08_a_rule_that_cannot_be_read_stays_in_force,
    the_number_of_workflows_is_limited,
}

async fn a_workflow_is_set_and_returned_with_the_names_of_its_voters(sg: TestServer) {
    let _edge = edge(&sg).await;
    staff(&sg, &["ana", "bo", "cy"]).await;
    sg.create_group("security", pb::Role::Viewer, &["ana@example.com", "bo@example.com"]).await;
    let operator = caller(&sg, "ops", pb::Role::Operator).await;
    let admin = sg.admin();
    let voters = named(&["cy@example.com"], &["security"], &[]);
    let mut wanted =
        rule(&[("security", 1, named(&[], &["security"], &[])), ("owners", 2, voters)]);
    wanted.required_groups = 1;
    wanted.escalation = Some(pb::VoterSet { role: pb::Role::Admin.into(), ..Default::default() });
    wanted.escalation_timeout_minutes = Some(60);
    wanted.expire_minutes = 120;
    let request = request("", "coder", wanted.clone());
    let refused = set(&operator, request.clone()).await;
    assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
    let answer = set(&admin, request.clone()).await.unwrap();
    assert!(answer.in_flight.is_empty());
    assert_eq!(answer.warnings, [pb::ApprovalWorkflowWarning::RolesAlone as i32]);
    let stored = answer.approval_workflow.unwrap();
    assert_eq!(
        (stored.gateway.as_str(), stored.workspace.as_str(), stored.sandbox.as_str()),
        ("edge", "default", "coder")
    );
    wanted.distinct_actors = Some(true);
    wanted.apply_window_minutes = 1_440;
    wanted.groups[0].voters.as_mut().unwrap().role = pb::Role::Viewer.into();
    wanted.groups[1].voters.as_mut().unwrap().role = pb::Role::Viewer.into();
    assert_eq!(stored.rule.as_ref(), Some(&wanted));
    assert_eq!(get(&operator, "default", "coder").await.unwrap(), stored);
    assert_refused!(get(&operator, "default", "").await, NotFound, "NOT_FOUND");

    // The same rule again changes nothing.
    let again = set(&admin, request).await.unwrap().approval_workflow.unwrap();
    assert_eq!(again, stored);
    let event = last_event(&admin, "approval_workflow.set").await;
    let payload: serde_json::Value = serde_json::from_str(&event.payload_json).unwrap();
    for (key, value) in [("gateway", "edge"), ("workspace", "default"), ("sandbox", "coder")] {
        assert_eq!(payload[key], value);
    }
    sg.app.audit.wait_settled().await;
    let entries = admin.audit_entries("coder", "approval_workflow.set").await;
    assert!(entries.iter().any(|entry| entry.detail_json.contains("\"outcome\":\"noop\"")));
}

async fn g07_a_weaker_or_deleted_workflow_is_reviewed_and_a_tighter_one_is_not(sg: TestServer) {
    let _edge = edge(&sg).await;
    staff(&sg, &["ana", "bo", "cy"]).await;
    let admin = sg.admin();
    let first = set(&admin, request("", "", operators(1))).await.unwrap();
    let first = first.approval_workflow.unwrap();
    let stale = pb::SetWorkflowRequest { etag: "v9".to_owned(), ..request("", "", operators(2)) };
    let stale = assert_refused!(set(&admin, stale).await, Aborted, "CONCURRENT_CHANGE");
    assert_eq!(fact(&stale, "etag"), first.etag);
    let etag = first.etag.clone();
    let tighter = pb::SetWorkflowRequest { etag, ..request("", "", operators(2)) };
    let tighter = set(&admin, tighter).await.unwrap().approval_workflow.unwrap();
    assert_eq!(tighter.id, first.id);
    assert_ne!(tighter.etag, first.etag);

    let mut shared = operators(2);
    shared.distinct_actors = Some(false);
    let mut slower = operators(2);
    slower.expire_minutes = 129_600;
    for weaker in [operators(1), shared, slower] {
        let refused = set(&admin, request("", "", weaker.clone())).await;
        let refused = assert_refused!(refused, FailedPrecondition, "APPROVAL_REQUIRED");
        assert_eq!((fact(&refused, "votes"), fact(&refused, "needed")), ("0".into(), "2".into()));
        // The same change is the same review.
        let again = set(&admin, request("", "", weaker.clone())).await.unwrap_err();
        assert_eq!(fact(&again, "approval"), fact(&refused, "approval"));
        let checked = pb::SetWorkflowRequest { validate_only: true, ..request("", "", weaker) };
        let warnings = set(&admin, checked).await.unwrap().warnings;
        let review = pb::ApprovalWorkflowWarning::ReviewRequired;
        assert!(warnings.contains(&review.into()), "{warnings:?}");
    }
    let stale = assert_refused!(delete(&admin, "", "v1").await, Aborted, "CONCURRENT_CHANGE");
    assert_eq!(fact(&stale, "etag"), tighter.etag);
    assert_refused!(delete(&admin, "", "").await, FailedPrecondition, "APPROVAL_REQUIRED");
    assert_refused!(delete(&admin, "coder", "").await, NotFound, "NOT_FOUND");
    assert_eq!(get(&admin, "", "").await.unwrap(), tighter);
    // A new rule of a narrower scope only adds to it.
    set(&admin, request("", "coder", operators(1))).await.unwrap();
    assert_refused!(delete(&admin, "coder", "").await, FailedPrecondition, "APPROVAL_REQUIRED");
    // A pin under the rules is set, and not removed.
    pin(&admin, pin_request(None)).await.unwrap();
    assert_refused!(unpin(&admin, "").await, FailedPrecondition, "APPROVAL_REQUIRED");
    sg.app.audit.wait_settled().await;
    assert!(!admin.audit_entries("", "approval_workflow.delete").await.is_empty());
}

async fn bad_input_is_refused_with_its_field_and_stores_nothing(sg: TestServer) {
    let _edge = edge(&sg).await;
    staff(&sg, &["ana", "bo"]).await;
    let admin = sg.admin();
    let with = |change: fn(&mut pb::ApprovalRule)| {
        let mut rule = operators(1);
        change(&mut rule);
        request("", "", rule)
    };
    let base = request("", "", operators(1));
    let selector = "access/env=prod".to_owned();
    let long = "w".repeat(254);
    let cases = [
        (pb::SetWorkflowRequest { rule: None, ..base.clone() }, "rule"),
        (pb::SetWorkflowRequest { selector, ..base.clone() }, "selector"),
        (pb::SetWorkflowRequest { workspace: long, ..base.clone() }, "workspace"),
        (pb::SetWorkflowRequest { sandbox: "a/b".to_owned(), ..base.clone() }, "sandbox"),
        (pb::SetWorkflowRequest { gateway: String::new(), ..base }, "gateway"),
        (with(|rule| rule.groups.clear()), "rule.groups"),
        (with(|rule| rule.groups = vec![rule.groups[0].clone(); 9]), "rule.groups"),
        (with(|rule| rule.groups.push(rule.groups[0].clone())), "rule.groups[1].name"),
        (with(|rule| rule.groups[0].name.clear()), "rule.groups[0].name"),
        (with(|rule| rule.groups[0].name.push('\u{202e}')), "rule.groups[0].name"),
        (with(|rule| rule.groups[0].name.push(' ')), "rule.groups[0].name"),
        (with(|rule| rule.groups[0].required = 0), "rule.groups[0].required"),
        (with(|rule| rule.groups[0].required = 21), "rule.groups[0].required"),
        (with(|rule| rule.groups[0].voters = None), "rule.groups[0].voters"),
        (with(|rule| rule.required_groups = 2), "rule.required_groups"),
        (with(|rule| rule.expire_minutes = 4), "rule.expire_minutes"),
        (with(|rule| rule.apply_window_minutes = 10_081), "rule.apply_window_minutes"),
        (
            with(|rule| rule.escalation = Some(pb::VoterSet::default())),
            "rule.escalation_timeout_minutes",
        ),
        (with(|rule| rule.escalation_timeout_minutes = Some(0)), "rule.escalation_timeout_minutes"),
        (with(|rule| rule.rollback_on_load_failure = true), "rule.rollback_on_load_failure"),
        (with(|rule| rule.grant_minutes_max = Some(5)), "rule.grant_minutes_max"),
        (
            with(|rule| {
                let role = pb::Role::None.into();
                rule.groups[0].voters = Some(pb::VoterSet { role, ..Default::default() });
            }),
            "rule.groups[0].voters.role",
        ),
        (
            with(|rule| rule.groups[0].voters = Some(named(&["eve@example.com"], &[], &[]))),
            "rule.groups[0].voters.users[0]",
        ),
        (
            with(|rule| rule.groups[0].voters = Some(named(&[], &["ghosts"], &[]))),
            "rule.groups[0].voters.groups[0]",
        ),
        (
            with(|rule| rule.groups[0].voters = Some(named(&[], &[], &["ghost"]))),
            "rule.groups[0].voters.service_principals[0]",
        ),
        (
            with(|rule| rule.groups[0].voters = Some(named(&["ana@example.com"; 2], &[], &[]))),
            "rule.groups[0].voters.users[1]",
        ),
        (
            with(|rule| rule.groups[0].voters = Some(named(&["ana@example.com"; 51], &[], &[]))),
            "rule.groups[0].voters",
        ),
    ];
    for (bad, field) in cases {
        let refused = assert_refused!(set(&admin, bad).await, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains(&format!("`{field}`")), "{field}: {refused:?}");
    }
    assert!(list(&admin, pb::ListWorkflowsRequest::default()).await.0.is_empty());
    let request = pb::GetWorkflowRequest {
        gateway: "edge".to_owned(),
        selector: "access/env=prod".to_owned(),
        ..Default::default()
    };
    let refused = admin.approval_workflows().get_workflow(request).await;
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
}

async fn g09_a_rule_is_stored_at_once_while_the_gateway_hangs(sg: TestServer) {
    let edge = edge(&sg).await;
    staff(&sg, &["ana"]).await;
    for method in ["GetGatewayConfig", "GetSandboxConfig"] {
        edge.script(method, Script::Hang, Times::All);
    }
    let admin = sg.admin();
    for (workspace, sandbox) in [("", ""), ("default", ""), ("default", "coder")] {
        let mut setting = start_set(&sg, request(workspace, sandbox, operators(1)));
        let stored = || async { get(&admin, workspace, sandbox).await.is_ok() };
        eventually("it is stored", stored).await;
        assert!(setting.try_join_next().is_none(), "the gateway is still asked");
        let warnings = join_while_time_passes(&sg, setting).await.unwrap().warnings;
        assert!(warnings.contains(&pb::ApprovalWorkflowWarning::ApprovalModeUnknown.into()));
    }
    edge.clear_scripts();
}

async fn g09_writes_in_progress_are_named(sg: TestServer) {
    let _edge = edge(&sg).await;
    staff(&sg, &["ana"]).await;
    for (workspace, sandbox, deadline) in [
        ("default", "coder", LATER),
        ("", "", LATER),
        ("other", "coder", LATER),
        ("default", "coder", EARLIER),
    ] {
        add_write(&sg, workspace, sandbox, deadline).await;
    }
    let admin = sg.admin();
    let setting = start_set(&sg, request("default", "", operators(1)));
    eventually("it is stored", || async { get(&admin, "default", "").await.is_ok() }).await;
    let answer = join_while_time_passes(&sg, setting).await.unwrap();
    let named = answer.in_flight.iter();
    let named: Vec<_> =
        named.map(|write| (write.workspace.as_str(), write.sandbox.as_str())).collect();
    assert_eq!(named, [("default", "coder"), ("", "")]);
}

async fn an_automatic_approval_mode_is_a_warning(sg: TestServer) {
    staff(&sg, &["ana"]).await;
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let auto = i32::from(pb::ApprovalWorkflowWarning::ApprovalModeAuto);
        let on = |sandbox: &str| pb::SetWorkflowRequest {
            gateway: name.to_owned(),
            ..request("", sandbox, operators(1))
        };
        for sandbox in ["", "coder", "next"] {
            let answer = set(&sg.admin(), on(sandbox)).await.unwrap();
            assert!(!answer.warnings.contains(&auto), "{name} {sandbox}");
        }
        behind_our_back(&simulator, "auto").await;
        for sandbox in ["", "coder", "next"] {
            let answer = set(&sg.admin(), on(sandbox)).await.unwrap();
            assert_eq!(answer.warnings[0], auto, "{name} {sandbox}");
        }
    }
}

async fn an_automatic_approval_mode_that_is_known_refuses_a_rule_at_once(sg: TestServer) {
    staff(&sg, &["ana"]).await;
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        behind_our_back(&simulator, "auto").await;
        sg.run_job(&CHECKS).await;
        // No call to the gateway is necessary.
        simulator.script("GetGatewayConfig", Script::Hang, Times::All);
        let on = |sandbox: &str| pb::SetWorkflowRequest {
            gateway: name.to_owned(),
            ..request("", sandbox, operators(1))
        };
        for sandbox in ["", "coder"] {
            let refused = set(&sg.admin(), on(sandbox)).await;
            let refused = assert_refused!(refused, FailedPrecondition, "APPROVAL_MODE_AUTO");
            assert_eq!(fact(&refused, "gateway"), name);
            assert_eq!(fact(&refused, "setting"), "proposal_approval_mode");
        }
        assert!(list(&sg.admin(), pb::ListWorkflowsRequest::default()).await.0.is_empty());
        simulator.clear_scripts();
        behind_our_back(&simulator, "manual").await;
        sg.run_job(&CHECKS).await;
        set(&sg.admin(), on("")).await.unwrap();
        sg.sql("DELETE FROM approval_workflows").await;
    }
}

async fn the_approval_mode_of_each_sandbox_in_the_scope_is_read(sg: TestServer) {
    staff(&sg, &["ana"]).await;
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let _simulator = seeded(&sg, name, generation).await;
        let kind = pb::gateway_setting_value::Kind::Text("auto".to_owned());
        let setting = pb::UpdateGatewaySettingRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            key: "proposal_approval_mode".to_owned(),
            value: Some(pb::GatewaySettingValue { kind: Some(kind) }),
            ..Default::default()
        };
        admin.gateways().update_gateway_setting(setting).await.unwrap();
        let auto = i32::from(pb::ApprovalWorkflowWarning::ApprovalModeAuto);
        for (workspace, sandbox, expected) in [
            ("", "", true),
            ("default", "", true),
            ("other", "", false),
            ("default", "coder", true),
            ("default", "next", false),
        ] {
            let request = pb::SetWorkflowRequest {
                gateway: name.to_owned(),
                ..request(workspace, sandbox, operators(1))
            };
            let warnings = set(&admin, request).await.unwrap().warnings;
            assert_eq!(warnings.contains(&auto), expected, "{name} {workspace} {sandbox}");
        }
    }
}

async fn a_validated_rule_is_not_stored(sg: TestServer) {
    let _edge = edge(&sg).await;
    staff(&sg, &["ana"]).await;
    let admin = sg.admin();
    let dry = |rule| pb::SetWorkflowRequest { validate_only: true, ..request("", "", rule) };
    let one = rule(&[("ana", 1, named(&["ana@example.com"], &[], &[]))]);
    let answer = set(&admin, dry(one)).await.unwrap();
    let shown = answer.approval_workflow.unwrap();
    assert_eq!((shown.id, shown.etag.as_str()), (0, ""));
    assert!(answer.warnings.contains(&pb::ApprovalWorkflowWarning::NoSpareVoter.into()));
    assert_refused!(get(&admin, "", "").await, NotFound, "NOT_FOUND");
    assert_refused!(set(&admin, dry(operators(9))).await, FailedPrecondition, "QUORUM_UNREACHABLE");
    let stored = set(&admin, request("", "", operators(1))).await.unwrap();
    let stored = stored.approval_workflow.unwrap();
    staff(&sg, &["bo"]).await;
    let tighter = set(&admin, dry(operators(2))).await.unwrap().approval_workflow.unwrap();
    assert_eq!((tighter.id, &tighter.etag), (stored.id, &stored.etag));
    assert_eq!(get(&admin, "", "").await.unwrap(), stored);
}

async fn workflows_are_listed_in_pages_on_the_gateways_that_the_caller_can_see(sg: TestServer) {
    let _edge = edge(&sg).await;
    let _west = seeded(&sg, "west", GATEWAYS[1].1).await;
    staff(&sg, &["ana"]).await;
    let admin = sg.admin();
    for (gateway, workspace, sandbox) in
        [("west", "", ""), ("edge", "team", "one"), ("edge", "", ""), ("edge", "team", "")]
    {
        let gateway = gateway.to_owned();
        let request = request(workspace, sandbox, operators(1));
        set(&admin, pb::SetWorkflowRequest { gateway, ..request }).await.unwrap();
    }
    let expected = ["edge//", "edge/team/", "edge/team/one", "west//"];
    let found = all_pages(async |page_token| {
        let request = pb::ListWorkflowsRequest { page_size: 3, page_token, ..Default::default() };
        list(&admin, request).await
    });
    assert_eq!(found.await, expected);
    let here = caller(&sg, "here", pb::Role::None).await;
    admin.bind("here", "edge", pb::Role::Viewer).await;
    assert_eq!(list(&here, pb::ListWorkflowsRequest::default()).await.0, expected[..3]);
    let west = pb::ListWorkflowsRequest { gateway: "west".to_owned(), ..Default::default() };
    assert_eq!(list(&admin, west.clone()).await.0, expected[3..]);
    let hidden = here.approval_workflows().list_workflows(west).await;
    assert_refused!(hidden, NotFound, "NOT_FOUND");
}

async fn g08_a_rule_that_cannot_be_read_stays_in_force(sg: TestServer) {
    let _edge = edge(&sg).await;
    staff(&sg, &["ana", "bo"]).await;
    let admin = sg.admin();
    set(&admin, request("", "", operators(1))).await.unwrap();
    sg.sql(r#"UPDATE approval_workflows SET rule_json = '{"quorum":7}'"#).await;
    let shown = get(&admin, "", "").await.unwrap();
    assert_eq!(shown.rule, None);
    // It is not known to be weaker than any other.
    let refused = set(&admin, request("", "", operators(2))).await;
    let refused = assert_refused!(refused, FailedPrecondition, "GOVERNED");
    assert!(refused.message().contains("cannot be read"), "{refused:?}");
    assert_refused!(delete(&admin, "", "").await, FailedPrecondition, "GOVERNED");
}

async fn the_number_of_workflows_is_limited(sg: TestServer) {
    let _edge = edge(&sg).await;
    staff(&sg, &["ana", "bo"]).await;
    let filled = WORKFLOWS_MAX - 1;
    let statement = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {filled}) \
         INSERT INTO approval_workflows (gateway_name, workspace, sandbox_name, required_approvals, created_by, \
         created_at, updated_at) SELECT name, 'default', 's' || i, 1, 'root', registered_at, registered_at \
         FROM n, gateways WHERE name = 'edge'"
    );
    sg.sql(&statement).await;
    let admin = sg.admin();
    set(&admin, request("", "last", operators(1))).await.unwrap();
    let over = set(&admin, request("", "over", operators(1))).await;
    assert_refused!(over, FailedPrecondition, "LIMIT_REACHED");
    set(&admin, request("", "last", operators(2))).await.expect("a change needs no room");
}
