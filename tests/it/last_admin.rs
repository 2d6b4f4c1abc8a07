//! The last active admin cannot be removed, even if two admins remove each other at the same moment, on one replica or
//! on two.

use std::time::{Duration, Instant};

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::users::store;
use tonic::Status;
use tonic::transport::Endpoint;

use crate::support::server::{ADMIN_EMAIL, Bearer, Caller, TestServer, reason, run};

const ANA: &str = "ana@example.com";
const BEN: &str = "ben@example.com";
/// Maximum number of races between two admins in a test. There is one for each pair of ways, and there are more until two
/// removals have met.
const RACES_MAX: usize = 50;

/// A way to remove an admin.
#[derive(Debug, Clone, Copy)]
enum Way {
    Demote,
    Deactivate,
    Reset,
    Delete,
}

const WAYS: [Way; 4] = [Way::Demote, Way::Deactivate, Way::Reset, Way::Delete];

fn update(user: &str, field: &str) -> pb::UpdateUserRequest {
    let paths = vec![field.to_owned()];
    let update_mask = Some(prost_types::FieldMask { paths });
    let role = pb::Role::Viewer.into();
    pb::UpdateUserRequest { user: user.to_owned(), update_mask, role, ..Default::default() }
}

async fn take_away(caller: &Caller, way: Way, user: &str) -> Result<(), Status> {
    let mut users = caller.users();
    let user = user.to_owned();
    match way {
        Way::Demote => users.update_user(update(&user, "role")).await.map(drop),
        Way::Deactivate => users.update_user(update(&user, "is_active")).await.map(drop),
        Way::Reset => {
            let request = pb::ResetPasswordRequest { user, ..Default::default() };
            users.reset_password(request).await.map(drop)
        }
        Way::Delete => {
            let request = pb::DeleteUserRequest { user, ..Default::default() };
            users.delete_user(request).await.map(drop)
        }
    }
}

/// Recreates both admins and demotes the first admin, so that there are no other admins.
async fn two_admins(sg: &TestServer) -> (String, String) {
    sg.sql(&format!("DELETE FROM users WHERE email <> '{ADMIN_EMAIL}'")).await;
    sg.sql("UPDATE users SET role = 'viewer'").await;
    tokio::join!(sg.create_user(ANA, pb::Role::Admin), sg.create_user(BEN, pb::Role::Admin))
}

async fn any(sg: &TestServer) -> bool {
    store::has_active_admin(&mut sg.app.db.read().await.unwrap()).await.unwrap()
}

/// Waits until the server that the caller uses accepts its credential.
async fn known(caller: &Caller) {
    let begun = Instant::now();
    let who = pb::GetCurrentIdentityRequest {};
    while caller.auth().get_current_identity(who).await.is_err() {
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "not within a second, nor a minute on a busy machine"
        );
        crate::support::pause().await;
    }
}

/// Lets both admins remove each other at once, the first one in these ways and the second one, through `there`, in any.
async fn race(sg: &TestServer, ways: &[Way], there: &Caller) {
    let mut held = 0;
    for round in 0..RACES_MAX {
        if round >= ways.len() * WAYS.len() && held > 0 {
            break;
        }
        let (ana, ben) = two_admins(sg).await;
        let (one, two) =
            (sg.with_token(&ana), Caller { bearer: Bearer(Some(ben)), ..there.clone() });
        known(&two).await;
        let (first, second) = (ways[round % ways.len()], WAYS[round / ways.len() % WAYS.len()]);
        let (a, b) = tokio::join!(take_away(&one, first, BEN), take_away(&two, second, ANA));
        let told = format!("round {round}: {first:?} {a:?}, {second:?} {b:?}");
        assert!(any(sg).await, "{told}");
        assert!(!(a.is_ok() && b.is_ok()), "{told}");
        for refused in [&a, &b].into_iter().filter_map(|answer| answer.as_ref().err()) {
            // The first removal may finish before the other caller is admitted.
            let known = ["LAST_ADMIN", "ROLE_TOO_LOW", "CREDENTIAL_INVALID"];
            assert!(known.contains(&reason(refused).as_str()), "{told}");
            held += usize::from(reason(refused) == "LAST_ADMIN");
        }
    }
    assert!(held > 0, "no two met");
}

server_tests! {
    the_last_active_admin_cannot_be_removed_in_any_way,
    two_admins_that_update_and_remove_each_other_leave_one_admin,
    two_admins_that_reset_or_delete_each_other_leave_one_admin,
}

async fn the_last_active_admin_cannot_be_removed_in_any_way(sg: TestServer) {
    let admin = sg.admin();
    for way in WAYS {
        assert_refused!(
            take_away(&admin, way, ADMIN_EMAIL).await,
            FailedPrecondition,
            "LAST_ADMIN"
        );
    }
    // An admin who has not accepted the invitation and one who is deactivated do not count as remaining admins.
    admin.invite(BEN, pb::Role::Admin).await;
    sg.create_user(ANA, pb::Role::Admin).await;
    take_away(&admin, Way::Deactivate, ANA).await.unwrap();
    for way in WAYS {
        assert_refused!(
            take_away(&admin, way, ADMIN_EMAIL).await,
            FailedPrecondition,
            "LAST_ADMIN"
        );
    }
    let back = pb::UpdateUserRequest { is_active: true, ..update(ANA, "is_active") };
    admin.users().update_user(back).await.unwrap();
    for way in WAYS {
        take_away(&admin, way, ADMIN_EMAIL).await.unwrap();
    }
    for way in WAYS {
        assert_refused!(take_away(&admin, way, ANA).await, FailedPrecondition, "LAST_ADMIN");
    }
    sg.finish().await;
}

async fn two_admins_that_update_and_remove_each_other_leave_one_admin(sg: TestServer) {
    race(&sg, &WAYS[..2], &sg.anonymous()).await;
    sg.finish().await;
}

async fn two_admins_that_reset_or_delete_each_other_leave_one_admin(sg: TestServer) {
    race(&sg, &WAYS[2..], &sg.anonymous()).await;
    sg.finish().await;
}

fn race_on_two_replicas(ways: &[Way]) {
    run(
        Engine::Postgres,
        |_| {},
        async |sg: TestServer| {
            let (app, running) = sg.start_replica().await;
            let channel = Endpoint::new(format!("http://{}", running.address())).unwrap();
            let there = Caller { channel: channel.connect_lazy(), bearer: Bearer(None) };
            race(&sg, ways, &there).await;
            app.stop.cancel();
            running.stopped().await;
            app.drain().await;
            drop(app);
            sg.finish().await;
        },
    );
}

#[test]
fn concurrent_updates_and_removals_of_admins_on_two_replicas_leave_one_admin() {
    race_on_two_replicas(&WAYS[..2]);
}

#[test]
fn concurrent_resets_and_removals_of_admins_on_two_replicas_leave_one_admin() {
    race_on_two_replicas(&WAYS[2..]);
}
