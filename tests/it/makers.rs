//! Who made a service principal, who rotated its key, and when a member joined a group.

use shoreguard::pb::v1 as pb;
use shoreguard::role::Role;

use crate::support::server::{ADMIN_EMAIL, TestServer};

server_tests! {
    the_maker_and_the_last_rotator_of_a_service_principal_are_stored,
    a_member_of_a_group_has_the_time_of_joining,
}

/// Returns whether one service principal has these values in a column of principals.
async fn has(sg: &TestServer, name: &str, column: &str, principal: &str) -> bool {
    let statement = format!(
        "UPDATE service_principals SET role = role WHERE name = '{name}' AND {column} = ({principal})"
    );
    sg.sql(&statement).await == 1
}

async fn the_maker_and_the_last_rotator_of_a_service_principal_are_stored(sg: TestServer) {
    let root = "SELECT 'service_principal:' || id FROM service_principals WHERE name = 'root'";
    let user = format!("SELECT 'user:' || id FROM users WHERE email = '{ADMIN_EMAIL}'");
    assert!(has(&sg, "root", "maker", &user).await);
    sg.admin().create_key("ci", pb::Role::Operator).await;
    assert!(has(&sg, "ci", "maker", root).await);
    let unrotated =
        "UPDATE service_principals SET role = role WHERE name = 'ci' AND rotated_by IS NULL";
    assert_eq!(sg.sql(unrotated).await, 1);
    let rotate = pb::RotateServicePrincipalRequest {
        service_principal: "ci".to_owned(),
        ..Default::default()
    };
    sg.admin().service_principals().rotate_service_principal(rotate).await.unwrap();
    assert!(has(&sg, "ci", "rotated_by", root).await);
    assert!(has(&sg, "ci", "maker", root).await, "a rotation does not change the maker");

    // Deleting the maker does not make it unknown.
    sg.create_user("ana@example.com", Role::Admin).await;
    let ana = sg.login("ana@example.com").await;
    ana.create_key("hers", pb::Role::Viewer).await;
    let maker = "SELECT 'user:' || id FROM users WHERE email = 'ana@example.com'";
    assert!(has(&sg, "hers", "maker", maker).await);
    let delete = pb::DeleteUserRequest { user: "ana@example.com".to_owned(), ..Default::default() };
    sg.admin().users().delete_user(delete).await.unwrap();
    let kept =
        "UPDATE service_principals SET role = role WHERE name = 'hers' AND maker LIKE 'user:%'";
    assert_eq!(sg.sql(kept).await, 1);
}

async fn a_member_of_a_group_has_the_time_of_joining(sg: TestServer) {
    sg.create_user("ana@example.com", Role::Viewer).await;
    sg.create_group("ops", Role::Operator, &["ana@example.com"]).await;
    let later = "UPDATE group_members SET group_id = group_id WHERE joined_at >= \
                 (SELECT created_at FROM users WHERE email = 'ana@example.com')";
    assert_eq!(sg.sql(later).await, 1);
    // A row from before the time was stored does not stop the server.
    sg.sql("UPDATE group_members SET joined_at = NULL").await;
    shoreguard::feed::load(&sg.app).await.unwrap();
}
