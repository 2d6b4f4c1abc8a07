//! The last active admin cannot be removed, even if two admins remove each other at the same moment, on one replica or
//! on two.

use diesel_async::RunQueryDsl;
use shoreguard::app::App;
use shoreguard::db::{Engine, on_conn};
use shoreguard::error::Error;
use shoreguard::feed;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::users::store;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::transport::Endpoint;

use crate::support::eventually;
use crate::support::server::{ADMIN_EMAIL, Bearer, Caller, TestServer, reason, run};

const ANA: &str = "ana@example.com";
const BEN: &str = "ben@example.com";
/// Stops every write to the table of users, but no read, until the end of the transaction.
const HOLD: [&str; 2] =
    ["SET LOCAL idle_in_transaction_session_timeout = 0", "LOCK TABLE users IN SHARE MODE"];
/// Sessions of the test's database that wait for a lock.
const WAITING: &str = "SELECT 1 FROM pg_stat_activity \
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

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
async fn known(app: &App, caller: &Caller) {
    feed::refresh(app).await.unwrap();
    let who = pb::GetCurrentIdentityRequest {};
    let accepted = || async { caller.auth().get_current_identity(who).await.is_ok() };
    eventually("the credential is accepted", accepted).await;
}

/// Removes Ben with the first caller and Ana with the second one, in these ways, at once. On PostgreSQL, both
/// transactions have begun before the first one writes: it waits for the table, and the second one waits for it. SQLite
/// has one writer.
async fn remove_both(
    sg: &TestServer,
    [one, two]: [&Caller; 2],
    [first, second]: [Way; 2],
) -> [Result<(), Status>; 2] {
    let (enter, is_held) = oneshot::channel();
    let hold = async {
        if sg.engine == Engine::Sqlite {
            enter.send(()).unwrap();
            return;
        }
        let met = sg.app.db.transaction(async |conn| {
            for statement in HOLD {
                on_conn!(conn, |c| diesel::sql_query(statement).execute(c).await)?;
            }
            enter.send(()).unwrap();
            eventually("both removals wait", || async { sg.sql(WAITING).await >= 2 }).await;
            Ok::<_, Error>(())
        });
        met.await.unwrap();
    };
    let removals = async {
        is_held.await.unwrap();
        tokio::join!(take_away(one, first, BEN), take_away(two, second, ANA))
    };
    let ((), (a, b)) = tokio::join!(hold, removals);
    [a, b]
}

/// Removes both admins at once, the first one in this way and the second one in any: as each other, and as two service
/// principals, which stay admins. The second removal of each pair is made through `there`, a caller of `app`.
async fn race(sg: &TestServer, first: Way, app: &App, there: &Caller) {
    let key = sg.admin().create_key("second", pb::Role::Admin).await;
    let programs = [sg.admin(), Caller { bearer: Bearer(Some(key)), ..there.clone() }];
    known(app, &programs[1]).await;
    for pair in WAYS.map(|second| [first, second]) {
        let (ana, ben) = two_admins(sg).await;
        let admins = [sg.with_token(&ana), Caller { bearer: Bearer(Some(ben)), ..there.clone() }];
        known(app, &admins[1]).await;
        let refused = remove_but_one(sg, admins.each_ref(), pair).await;
        // The other admin has lost its rights, or there would be no admin without it.
        let reasons = ["LAST_ADMIN", "ROLE_TOO_LOW", "CREDENTIAL_INVALID"];
        assert!(reasons.contains(&reason(&refused).as_str()), "{pair:?}: {refused:?}");

        two_admins(sg).await;
        let refused = remove_but_one(sg, programs.each_ref(), pair).await;
        assert_eq!(reason(&refused), "LAST_ADMIN", "{pair:?}: {refused:?}");
    }
}

/// Removes both admins at once, and returns the error of the removal that is refused.
async fn remove_but_one(sg: &TestServer, callers: [&Caller; 2], ways: [Way; 2]) -> Status {
    let answers = remove_both(sg, callers, ways).await;
    assert!(any(sg).await, "{ways:?}: {answers:?}");
    match answers {
        [Ok(()), Err(refused)] | [Err(refused), Ok(())] => refused,
        answers => panic!("{ways:?}: {answers:?}"),
    }
}

server_tests! {
    the_last_active_admin_cannot_be_removed_in_any_way,
    a_demotion_and_the_removal_of_another_admin_leave_one_admin,
    a_deactivation_and_the_removal_of_another_admin_leave_one_admin,
    a_reset_and_the_removal_of_another_admin_leave_one_admin,
    a_deletion_and_the_removal_of_another_admin_leave_one_admin,
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

async fn a_demotion_and_the_removal_of_another_admin_leave_one_admin(sg: TestServer) {
    race(&sg, Way::Demote, &sg.app, &sg.anonymous()).await;
    sg.finish().await;
}

async fn a_deactivation_and_the_removal_of_another_admin_leave_one_admin(sg: TestServer) {
    race(&sg, Way::Deactivate, &sg.app, &sg.anonymous()).await;
    sg.finish().await;
}

async fn a_reset_and_the_removal_of_another_admin_leave_one_admin(sg: TestServer) {
    race(&sg, Way::Reset, &sg.app, &sg.anonymous()).await;
    sg.finish().await;
}

async fn a_deletion_and_the_removal_of_another_admin_leave_one_admin(sg: TestServer) {
    race(&sg, Way::Delete, &sg.app, &sg.anonymous()).await;
    sg.finish().await;
}

fn race_on_two_replicas(first: Way) {
    run(
        Engine::Postgres,
        |_| {},
        async |sg: TestServer| {
            let (app, running) = sg.start_replica().await;
            let channel = Endpoint::new(format!("http://{}", running.address())).unwrap();
            let there = Caller { channel: channel.connect_lazy(), bearer: Bearer(None) };
            race(&sg, first, &app, &there).await;
            app.stop.cancel();
            running.stopped().await;
            app.drain().await;
            drop(app);
            sg.finish().await;
        },
    );
}

#[test]
fn a_demotion_on_one_replica_and_a_removal_on_another_leave_one_admin() {
    race_on_two_replicas(Way::Demote);
}

#[test]
fn a_deactivation_on_one_replica_and_a_removal_on_another_leave_one_admin() {
    race_on_two_replicas(Way::Deactivate);
}

#[test]
fn a_reset_on_one_replica_and_a_removal_on_another_leave_one_admin() {
    race_on_two_replicas(Way::Reset);
}

#[test]
fn a_deletion_on_one_replica_and_a_removal_on_another_leave_one_admin() {
    race_on_two_replicas(Way::Delete);
}
