//! Groups, through the API.

use shoreguard::pb::v1 as pb;
use shoreguard::resources::groups::domain::{GROUP_MEMBERS_MAX, GROUPS_MAX, GROUPS_OF_A_USER_MAX};
use shoreguard::role::Role;
use shoreguard_simulator::Generation;
use tonic::Status;

use crate::support::server::Caller;
use crate::support::server::TestServer;
use crate::support::soon;

fn create(name: &str, role: pb::Role) -> pb::CreateGroupRequest {
    pb::CreateGroupRequest { name: name.to_owned(), role: role.into(), ..Default::default() }
}

fn get(group: &str) -> pb::GetGroupRequest {
    pb::GetGroupRequest { group: group.to_owned() }
}

/// Returns an update of these fields.
fn update(group: &str, paths: &[&str]) -> pb::UpdateGroupRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateGroupRequest {
        group: group.to_owned(),
        update_mask: Some(prost_types::FieldMask { paths }),
        ..Default::default()
    }
}

fn delete(group: &str) -> pb::DeleteGroupRequest {
    pb::DeleteGroupRequest { group: group.to_owned(), ..Default::default() }
}

async fn add(admin: &Caller, group: &str, user: &str) -> Result<pb::GroupMember, Status> {
    let request = pb::AddGroupMemberRequest {
        group: group.to_owned(),
        user: user.to_owned(),
        ..Default::default()
    };
    let added = admin.groups().add_group_member(request).await?;
    Ok(added.into_inner().group_member.unwrap())
}

async fn remove(admin: &Caller, group: &str, user: &str) -> Result<(), Status> {
    let request = pb::RemoveGroupMemberRequest {
        group: group.to_owned(),
        user: user.to_owned(),
        ..Default::default()
    };
    admin.groups().remove_group_member(request).await.map(|_| ())
}

async fn members(admin: &Caller, group: &str, page_size: i32) -> Vec<String> {
    let (mut emails, mut token) = (Vec::new(), String::new());
    loop {
        let request =
            pb::ListGroupMembersRequest { group: group.to_owned(), page_size, page_token: token };
        let page = admin.groups().list_group_members(request).await.unwrap().into_inner();
        assert!(page.group_members.len() <= usize::try_from(page_size).unwrap());
        emails.extend(page.group_members.into_iter().map(|member| member.user));
        token = page.next_page_token;
        if token.is_empty() {
            return emails;
        }
    }
}

async fn role(caller: &Caller) -> pb::Role {
    let who = pb::GetCurrentIdentityRequest {};
    caller.auth().get_current_identity(who).await.unwrap().into_inner().role()
}

server_tests! {
    a_group_is_created_found_changed_and_deleted,
    an_invalid_group_request_is_refused_and_changes_nothing,
    a_blank_group_name_is_refused,
    an_update_changes_only_the_fields_of_its_mask,
    a_group_role_applies_from_the_next_call_of_a_member,
    a_stream_ends_if_its_caller_loses_the_required_membership,
    groups_and_members_are_listed_in_pages,
    deleting_a_group_deletes_its_memberships_and_bindings,
    every_group_change_is_audited_and_emits_an_event,
    the_numbers_of_groups_and_memberships_are_limited,
}

async fn a_group_is_created_found_changed_and_deleted(sg: TestServer) {
    let admin = sg.admin();
    let request = pb::CreateGroupRequest {
        description: "runs the fleet".into(),
        ..create("ops", pb::Role::Operator)
    };
    let made = admin.groups().create_group(request).await.unwrap().into_inner().group.unwrap();
    assert_eq!(
        (made.name.as_str(), made.description.as_str(), made.role()),
        ("ops", "runs the fleet", pb::Role::Operator)
    );
    assert_eq!((made.member_count, made.etag.as_str()), (0, "v1"));
    let found = admin.groups().get_group(get("ops")).await.unwrap().into_inner().group.unwrap();
    assert_eq!(found, made);
    assert_refused!(
        admin.groups().create_group(create("ops", pb::Role::None)).await,
        AlreadyExists,
        "ALREADY_EXISTS"
    );

    let rename = pb::UpdateGroupRequest {
        name: "operations".into(),
        etag: "v9".into(),
        ..update("ops", &["name"])
    };
    assert_refused!(
        admin.groups().update_group(rename.clone()).await,
        Aborted,
        "CONCURRENT_CHANGE"
    );
    let rename = pb::UpdateGroupRequest { etag: "v1".into(), ..rename };
    let renamed = admin.groups().update_group(rename).await.unwrap().into_inner().group.unwrap();
    assert_eq!(
        (renamed.id, renamed.name.as_str(), renamed.etag.as_str()),
        (made.id, "operations", "v2")
    );
    assert_refused!(admin.groups().get_group(get("ops")).await, NotFound, "NOT_FOUND");
    admin.groups().create_group(create("ops", pb::Role::None)).await.unwrap();
    let taken = pb::UpdateGroupRequest { name: "ops".into(), ..update("operations", &["name"]) };
    assert_refused!(admin.groups().update_group(taken).await, AlreadyExists, "ALREADY_EXISTS");

    let stale = pb::DeleteGroupRequest { etag: "v1".into(), ..delete("operations") };
    assert_refused!(admin.groups().delete_group(stale).await, Aborted, "CONCURRENT_CHANGE");
    let right = pb::DeleteGroupRequest { etag: "v2".into(), ..delete("operations") };
    admin.groups().delete_group(right).await.unwrap();
    assert_refused!(admin.groups().delete_group(delete("operations")).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn an_invalid_group_request_is_refused_and_changes_nothing(sg: TestServer) {
    let admin = sg.admin();
    for request in [
        create("", pb::Role::Viewer),
        create("<b>", pb::Role::Viewer),
        create(&"a".repeat(101), pb::Role::Viewer),
        create("ops", pb::Role::Unspecified),
        pb::CreateGroupRequest { role: 9, ..create("ops", pb::Role::Viewer) },
        pb::CreateGroupRequest {
            description: "two\nlines".into(),
            ..create("ops", pb::Role::Viewer)
        },
        pb::CreateGroupRequest {
            description: "a".repeat(1_001),
            ..create("ops", pb::Role::Viewer)
        },
    ] {
        assert_refused!(
            admin.groups().create_group(request).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    let all =
        admin.groups().list_groups(pb::ListGroupsRequest::default()).await.unwrap().into_inner();
    assert!(all.groups.is_empty());

    let longest = pb::CreateGroupRequest {
        description: "\u{e4}".repeat(1_000),
        ..create(&"\u{e4}".repeat(100), pb::Role::Viewer)
    };
    admin.groups().create_group(longest).await.unwrap();
    admin.groups().create_group(create("ops", pb::Role::Viewer)).await.unwrap();
    for request in [
        update("ops", &[]),
        update("ops", &["id"]),
        update("ops", &["name", "members"]),
        update("ops", &["role"]),
        update("ops", &["name"]),
        update("a\0b", &["description"]),
        update("", &["description"]),
        pb::UpdateGroupRequest { update_mask: None, ..update("ops", &[]) },
    ] {
        assert_refused!(
            admin.groups().update_group(request).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    let found = admin.groups().get_group(get("ops")).await.unwrap().into_inner().group.unwrap();
    assert_eq!(found.etag, "v1");
    assert_refused!(add(&admin, "ops", "no address").await, InvalidArgument, "INVALID_FIELD");
    sg.finish().await;
}

async fn a_blank_group_name_is_refused(sg: TestServer) {
    let admin = sg.admin();
    admin.groups().create_group(create("ops", pb::Role::Viewer)).await.unwrap();
    for blank in ["", " ", "   ", "\t", "\u{a0}", " ops "] {
        assert_refused!(
            admin.groups().create_group(create(blank, pb::Role::Viewer)).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
        let rename = pb::UpdateGroupRequest { name: blank.into(), ..update("ops", &["name"]) };
        assert_refused!(
            admin.groups().update_group(rename).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    sg.finish().await;
}

async fn an_update_changes_only_the_fields_of_its_mask(sg: TestServer) {
    let admin = sg.admin();
    let request =
        pb::CreateGroupRequest { description: "kept".into(), ..create("ops", pb::Role::Viewer) };
    admin.groups().create_group(request).await.unwrap();
    let only_role =
        pb::UpdateGroupRequest { role: pb::Role::Operator.into(), ..update("ops", &["role"]) };
    let changed = admin.groups().update_group(only_role).await.unwrap().into_inner().group.unwrap();
    assert_eq!((changed.description.as_str(), changed.role()), ("kept", pb::Role::Operator));
    // Set, but not in the mask.
    let other = pb::UpdateGroupRequest {
        description: "lost".into(),
        role: pb::Role::None.into(),
        name: "sre".into(),
        ..update("ops", &["name"])
    };
    let changed = admin.groups().update_group(other).await.unwrap().into_inner().group.unwrap();
    assert_eq!(
        (changed.name.as_str(), changed.description.as_str(), changed.role()),
        ("sre", "kept", pb::Role::Operator)
    );
    // In the mask and empty.
    let cleared = admin
        .groups()
        .update_group(update("sre", &["description"]))
        .await
        .unwrap()
        .into_inner()
        .group
        .unwrap();
    assert_eq!((cleared.description.as_str(), cleared.role()), ("", pb::Role::Operator));
    sg.finish().await;
}

async fn a_group_role_applies_from_the_next_call_of_a_member(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user("ana@example.com", Role::Viewer).await;
    let ana = sg.login("ana@example.com").await;
    admin.groups().create_group(create("ops", pb::Role::Operator)).await.unwrap();
    admin.groups().create_group(create("low", pb::Role::None)).await.unwrap();
    assert_eq!(role(&ana).await, pb::Role::Viewer);
    add(&admin, "ops", "ana@example.com").await.unwrap();
    assert_eq!(role(&ana).await, pb::Role::Operator);
    // The highest role applies: a group with a lower role takes nothing away.
    add(&admin, "low", "ana@example.com").await.unwrap();
    assert_eq!(role(&ana).await, pb::Role::Operator);
    let raise = pb::UpdateGroupRequest { role: pb::Role::Admin.into(), ..update("ops", &["role"]) };
    admin.groups().update_group(raise).await.unwrap();
    assert_eq!(role(&ana).await, pb::Role::Admin);
    ana.groups().get_group(get("ops")).await.unwrap();
    remove(&admin, "ops", "ana@example.com").await.unwrap();
    assert_eq!(role(&ana).await, pb::Role::Viewer);
    assert_refused!(ana.groups().get_group(get("ops")).await, PermissionDenied, "ROLE_TOO_LOW");
    add(&admin, "ops", "ana@example.com").await.unwrap();
    admin.groups().delete_group(delete("ops")).await.unwrap();
    assert_eq!(role(&ana).await, pb::Role::Viewer);
    sg.finish().await;
}

async fn a_stream_ends_if_its_caller_loses_the_required_membership(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user("ana@example.com", Role::None).await;
    let ana = sg.login("ana@example.com").await;
    let watch = pb::WatchEventsRequest { after_sequence: -1, ..Default::default() };
    admin.groups().create_group(create("ops", pb::Role::Viewer)).await.unwrap();
    assert_refused!(
        ana.events().watch_events(watch.clone()).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    add(&admin, "ops", "ana@example.com").await.unwrap();
    let mut stream = ana.events().watch_events(watch).await.unwrap().into_inner();
    remove(&admin, "ops", "ana@example.com").await.unwrap();
    let ended = async {
        while stream.message().await?.is_some() {}
        Ok(())
    };
    let ended: Result<(), Status> = soon("the stream ends", ended).await;
    assert_refused!(ended, PermissionDenied, "ROLE_TOO_LOW");
    sg.finish().await;
}

async fn groups_and_members_are_listed_in_pages(sg: TestServer) {
    let admin = sg.admin();
    for name in ["c", "a", "e", "b", "d"] {
        admin.groups().create_group(create(name, pb::Role::Viewer)).await.unwrap();
    }
    for n in [3, 1, 2] {
        let email = format!("u{n}@example.com");
        sg.create_user(&email, Role::Operator).await;
        let added = add(&admin, "a", &email.to_uppercase()).await.unwrap();
        assert_eq!(
            (added.user.as_str(), added.role(), added.is_active),
            (email.as_str(), pb::Role::Operator, true)
        );
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListGroupsRequest { page_size: 2, page_token: token };
        let page = admin.groups().list_groups(request).await.unwrap().into_inner();
        assert!(page.groups.len() <= 2);
        names.extend(
            page.groups.into_iter().map(|group| format!("{} {}", group.name, group.member_count)),
        );
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a 3", "b 0", "c 0", "d 0", "e 0"]);
    assert_eq!(
        members(&admin, "a", 2).await,
        ["u1@example.com", "u2@example.com", "u3@example.com"]
    );
    let first =
        pb::ListGroupMembersRequest { group: "a".into(), page_size: 1, ..Default::default() };
    let token =
        admin.groups().list_group_members(first).await.unwrap().into_inner().next_page_token;
    let elsewhere =
        pb::ListGroupMembersRequest { group: "b".into(), page_size: 1, page_token: token };
    assert_refused!(
        admin.groups().list_group_members(elsewhere).await,
        InvalidArgument,
        "INVALID_FIELD"
    );

    assert_refused!(add(&admin, "a", "u1@example.com").await, AlreadyExists, "ALREADY_EXISTS");
    assert_refused!(add(&admin, "a", "ghost@example.com").await, NotFound, "NOT_FOUND");
    assert_refused!(add(&admin, "z", "u1@example.com").await, NotFound, "NOT_FOUND");
    remove(&admin, "a", "u1@example.com").await.unwrap();
    assert_refused!(remove(&admin, "a", "u1@example.com").await, NotFound, "NOT_FOUND");
    assert_eq!(members(&admin, "a", 50).await, ["u2@example.com", "u3@example.com"]);
    sg.finish().await;
}

async fn deleting_a_group_deletes_its_memberships_and_bindings(sg: TestServer) {
    let simulator = sg.start_gateway("edge", Generation::V0_1).await;
    let admin = sg.admin();
    sg.create_user("ana@example.com", Role::Viewer).await;
    admin.groups().create_group(create("ops", pb::Role::Viewer)).await.unwrap();
    add(&admin, "ops", "ana@example.com").await.unwrap();
    sg.sql("INSERT INTO group_gateway_roles (group_id, gateway_id, role) SELECT groups.id, gateways.id, 'admin' FROM groups, gateways").await;
    sg.sql(
        "INSERT INTO selector_bindings (subject_kind, group_id, selector, role, created_at) \
            SELECT 'group', id, 'access/zone=eu', 'viewer', created_at FROM groups",
    )
    .await;
    let gone = admin.groups().delete_group(delete("ops")).await.unwrap().into_inner();
    assert_eq!(
        (gone.members_removed, gone.gateway_roles_removed, gone.selector_bindings_removed),
        (1, 1, 1)
    );
    for table in ["group_members", "group_gateway_roles", "selector_bindings"] {
        assert_eq!(sg.sql(&format!("DELETE FROM {table}")).await, 0, "{table}");
    }
    sg.app.audit.wait_settled().await;
    let entries =
        pb::ListAuditEntriesRequest { action: "group.delete".into(), ..Default::default() };
    let entry = admin
        .audit()
        .list_audit_entries(entries)
        .await
        .unwrap()
        .into_inner()
        .audit_entries
        .remove(0);
    assert_eq!((entry.resource_type.as_str(), entry.resource_id.as_str()), ("group", "ops"));
    for kept in
        ["\"members_removed\":1", "\"gateway_roles_removed\":1", "\"selector_bindings_removed\":1"]
    {
        assert!(entry.detail_json.contains(kept), "{}", entry.detail_json);
    }
    simulator.stop().await;
    sg.finish().await;
}

async fn every_group_change_is_audited_and_emits_an_event(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user("ana@example.com", Role::Viewer).await;
    admin.groups().create_group(create("ops", pb::Role::Viewer)).await.unwrap();
    add(&admin, "ops", "ana@example.com").await.unwrap();
    remove(&admin, "ops", "ana@example.com").await.unwrap();
    admin.groups().update_group(update("ops", &["description"])).await.unwrap();
    admin.groups().delete_group(delete("ops")).await.unwrap();
    sg.app.audit.wait_settled().await;
    let entries = pb::ListAuditEntriesRequest { resource_id: "ops".into(), ..Default::default() };
    let entries =
        admin.audit().list_audit_entries(entries).await.unwrap().into_inner().audit_entries;
    let actions: Vec<&str> = entries.iter().rev().map(|entry| entry.action.as_str()).collect();
    assert_eq!(
        actions,
        ["group.create", "group_member.add", "group_member.remove", "group.update", "group.delete"]
    );
    assert!(
        entries
            .iter()
            .all(|entry| entry.outcome() == pb::AuditOutcome::Ok && entry.resource_id == "ops")
    );
    shoreguard::workers::run_once(&sg.app, &shoreguard::resources::events::worker::SEQUENCER)
        .await
        .unwrap();
    let events = admin
        .events()
        .list_events(pb::ListEventsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .events;
    let names: Vec<&str> = events
        .iter()
        .map(|event| event.name.as_str())
        .filter(|name| name.starts_with("group"))
        .collect();
    assert_eq!(
        names,
        [
            "group.created",
            "group_member.added",
            "group_member.removed",
            "group.updated",
            "group.deleted"
        ]
    );
    sg.finish().await;
}

async fn the_numbers_of_groups_and_memberships_are_limited(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user("ana@example.com", Role::Viewer).await;
    sg.create_user("ben@example.com", Role::Viewer).await;
    admin.groups().create_group(create("full", pb::Role::Viewer)).await.unwrap();
    admin.groups().create_group(create("free", pb::Role::Viewer)).await.unwrap();
    let numbers = |upto: i64| {
        format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {upto})")
    };
    let first = GROUP_MEMBERS_MAX - 1;
    sg.sql(&format!("{} INSERT INTO users (email, role, is_active, created_at) \
            SELECT 'm' || i || '@example.com', 'none', true, created_at FROM n, groups WHERE groups.name = 'full'", numbers(first))).await;
    sg.sql("INSERT INTO group_members (group_id, user_id) SELECT groups.id, users.id FROM groups, users \
            WHERE groups.name = 'full' AND users.email LIKE 'm%'").await;
    add(&admin, "full", "ana@example.com").await.unwrap();
    assert_refused!(
        add(&admin, "full", "ben@example.com").await,
        FailedPrecondition,
        "LIMIT_REACHED"
    );
    add(&admin, "free", "ben@example.com").await.unwrap();

    let rest = GROUPS_MAX - 3;
    sg.sql(&format!(
        "{} INSERT INTO groups (name, role, created_at) \
            SELECT 'g' || i, 'none', created_at FROM n, groups WHERE groups.name = 'full'",
        numbers(rest)
    ))
    .await;
    admin.groups().create_group(create("last", pb::Role::None)).await.unwrap();
    assert_refused!(
        admin.groups().create_group(create("more", pb::Role::None)).await,
        FailedPrecondition,
        "LIMIT_REACHED"
    );
    assert_refused!(admin.groups().get_group(get("more")).await, NotFound, "NOT_FOUND");

    let others = GROUPS_OF_A_USER_MAX - 2;
    sg.sql(&format!("INSERT INTO group_members (group_id, user_id) SELECT groups.id, users.id FROM groups, users \
            WHERE groups.name LIKE 'g%' AND users.email = 'ben@example.com' ORDER BY groups.id LIMIT {others}")).await;
    add(&admin, "last", "ben@example.com").await.unwrap();
    assert_refused!(
        add(&admin, "g9000", "ben@example.com").await,
        FailedPrecondition,
        "LIMIT_REACHED"
    );
    sg.finish().await;
}
