//! The last active admin cannot be removed, by any call and with concurrent calls.

use shoreguard::pb::v1 as pb;
use shoreguard::resources::users::store;
use shoreguard::role::Role;
use tonic::Status;

use crate::support::server::{ADMIN_EMAIL, Caller, TestServer, reason};

/// Number of races between two calls for the last admin.
const RACES: usize = 12;

async fn group(admin: &Caller, name: &str, members: &[&str]) {
    let role = pb::Role::Admin.into();
    let request = pb::CreateGroupRequest { name: name.to_owned(), role, ..Default::default() };
    admin.groups().create_group(request).await.unwrap();
    for user in members {
        add(admin, name, user).await;
    }
}

async fn add(admin: &Caller, group: &str, user: &str) {
    let (group, user) = (group.to_owned(), user.to_owned());
    let request = pb::AddGroupMemberRequest { group, user, ..Default::default() };
    admin.groups().add_group_member(request).await.unwrap();
}

async fn remove(admin: &Caller, group: &str, user: &str) -> Result<(), Status> {
    let (group, user) = (group.to_owned(), user.to_owned());
    let request = pb::RemoveGroupMemberRequest { group, user, ..Default::default() };
    admin.groups().remove_group_member(request).await.map(|_| ())
}

async fn set_role(admin: &Caller, group: &str, role: pb::Role) -> Result<(), Status> {
    let mask = prost_types::FieldMask { paths: vec!["role".to_owned()] };
    let request = pb::UpdateGroupRequest {
        group: group.to_owned(),
        update_mask: Some(mask),
        role: role.into(),
        ..Default::default()
    };
    admin.groups().update_group(request).await.map(|_| ())
}

async fn delete(admin: &Caller, group: &str) -> Result<(), Status> {
    let request = pb::DeleteGroupRequest { group: group.to_owned(), ..Default::default() };
    admin.groups().delete_group(request).await.map(|_| ())
}

/// Demotes the first admin, so that users are admins only through groups.
async fn demote_the_first(sg: &TestServer) {
    let changed = format!("UPDATE users SET role = 'viewer' WHERE email = '{ADMIN_EMAIL}'");
    assert_eq!(sg.sql(&changed).await, 1);
}

async fn any(sg: &TestServer) -> bool {
    store::has_active_admin(&mut sg.app.db.read().await.unwrap()).await.unwrap()
}

server_tests! {
    a_group_change_cannot_remove_the_last_active_admin,
    without_active_admins_group_changes_are_not_blocked,
    concurrent_removals_of_two_admins_leave_one,
}

async fn a_group_change_cannot_remove_the_last_active_admin(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user("ana@example.com", Role::Viewer).await;
    sg.create_user("ben@example.com", Role::Admin).await;
    group(&admin, "admins", &["ana@example.com", "ben@example.com"]).await;
    demote_the_first(&sg).await;
    // Users that are deactivated or have no way to log in do not count as remaining admins.
    sg.sql("UPDATE users SET is_active = false WHERE email = 'ben@example.com'").await;
    sg.create_user("cleo@example.com", Role::Admin).await;
    sg.sql("UPDATE users SET hashed_password = NULL WHERE email = 'cleo@example.com'").await;
    for refused in [
        remove(&admin, "admins", "ana@example.com").await,
        set_role(&admin, "admins", pb::Role::Operator).await,
        delete(&admin, "admins").await,
    ] {
        assert_refused!(refused, FailedPrecondition, "LAST_ADMIN");
    }
    let found = pb::GetGroupRequest { group: "admins".into() };
    let found = admin.groups().get_group(found).await.unwrap().into_inner().group.unwrap();
    assert_eq!((found.role(), found.member_count, found.etag.as_str()), (pb::Role::Admin, 2, "v1"));

    // A user who is not an active admin can be removed. With another active admin, each of the three calls is
    // allowed.
    remove(&admin, "admins", "ben@example.com").await.unwrap();
    sg.sql(
        "UPDATE users SET oidc_provider = 'idp', oidc_sub = '7' WHERE email = 'cleo@example.com'",
    )
    .await;
    remove(&admin, "admins", "ana@example.com").await.unwrap();
    add(&admin, "admins", "ana@example.com").await;
    set_role(&admin, "admins", pb::Role::Operator).await.unwrap();
    set_role(&admin, "admins", pb::Role::Admin).await.unwrap();
    delete(&admin, "admins").await.unwrap();
    sg.finish().await;
}

async fn without_active_admins_group_changes_are_not_blocked(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user("ana@example.com", Role::Viewer).await;
    group(&admin, "admins", &["ana@example.com"]).await;
    demote_the_first(&sg).await;
    sg.sql("UPDATE users SET is_active = false").await;
    assert!(!any(&sg).await);
    remove(&admin, "admins", "ana@example.com").await.unwrap();
    set_role(&admin, "admins", pb::Role::None).await.unwrap();
    delete(&admin, "admins").await.unwrap();
    sg.finish().await;
}

async fn concurrent_removals_of_two_admins_leave_one(sg: TestServer) {
    sg.create_user("ana@example.com", Role::Viewer).await;
    sg.create_user("ben@example.com", Role::Viewer).await;
    let admin = sg.admin();
    group(&admin, "east", &["ana@example.com"]).await;
    group(&admin, "west", &["ben@example.com"]).await;
    demote_the_first(&sg).await;
    // Separate connections, so that neither call waits for the other before it is handled.
    let (one, two) = (sg.connect_admin(), sg.connect_admin());
    for race in 0..RACES {
        let (a, b) = match race % 3 {
            0 => tokio::join!(
                remove(&one, "east", "ana@example.com"),
                remove(&two, "west", "ben@example.com")
            ),
            1 => tokio::join!(
                set_role(&one, "east", pb::Role::Viewer),
                remove(&two, "west", "ben@example.com")
            ),
            _ => tokio::join!(set_role(&one, "east", pb::Role::None), delete(&two, "west")),
        };
        assert!(any(&sg).await, "race {race}: {a:?} {b:?}");
        assert_ne!(a.is_ok(), b.is_ok(), "race {race}: {a:?} {b:?}");
        for refused in [&a, &b].into_iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(reason(refused), "LAST_ADMIN");
        }
        match (race % 3, a.is_ok()) {
            (0, true) => add(&admin, "east", "ana@example.com").await,
            (0 | 1, false) => add(&admin, "west", "ben@example.com").await,
            (_, true) => set_role(&admin, "east", pb::Role::Admin).await.unwrap(),
            (_, false) => group(&admin, "west", &["ben@example.com"]).await,
        }
    }
    sg.finish().await;
}
