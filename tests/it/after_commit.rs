//! A failure after a commit does not undo it: if the access data cannot be read again, a stored change is still
//! returned as successful. If the change revoked a right, every check fails closed until the access data has been read.

use shoreguard::feed::store::last_revision;
use shoreguard::pb::v1 as pb;
use tokio::task::JoinSet;
use tonic::{Response, Status};

use crate::support::pause;
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, TestServer};
use shoreguard::feed::FeedState;

/// Number of the server's connections for reading.
const READERS: usize = 2;

async fn revision(sg: &TestServer) -> i64 {
    last_revision(&mut sg.app.db.read().await.unwrap()).await.unwrap()
}

/// Makes a change whose access data cannot be read after the commit, because all connections for reading are in use.
/// Calls `meanwhile` before they are released.
async fn unread<T: Send + 'static>(
    sg: &TestServer,
    change: impl Future<Output = Result<Response<T>, Status>> + Send + 'static,
    meanwhile: impl AsyncFnOnce(),
) -> T {
    let feeding = sg.app.part::<FeedState>().block_updates().await;
    let before = revision(sg).await;
    let mut calls = JoinSet::new();
    calls.spawn(change);
    while revision(sg).await == before {
        pause().await;
    }
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(sg.app.db.read().await.unwrap());
    }
    drop(feeding);
    let answer = calls.join_next().await.unwrap().unwrap();
    meanwhile().await;
    drop(readers);
    answer.unwrap().into_inner()
}

/// Returns the outcomes of the audit entries of an action.
async fn outcomes(sg: &TestServer, action: &str) -> Vec<pb::AuditOutcome> {
    sg.app.audit.wait_settled().await;
    let request = pb::ListAuditEntriesRequest { action: action.to_owned(), ..Default::default() };
    let listed = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
    listed.audit_entries.iter().map(pb::AuditEntry::outcome).collect()
}

/// Waits until the access snapshot contains all committed changes.
async fn caught_up(sg: &TestServer) {
    let committed = revision(sg).await;
    while sg.app.snapshot.revision() < committed || sg.app.snapshot.check_fresh().is_err() {
        pause().await;
    }
}

async fn who(sg: &TestServer, key: &str) -> Result<(), Status> {
    let request = pb::GetCurrentIdentityRequest::default();
    sg.with_token(key).auth().get_current_identity(request).await.map(drop)
}

server_tests! {
    tuned |config| {
        config.database.readers = READERS.try_into().unwrap();
        config.database.acquire_timeout_seconds = 1;
    };
    a_created_key_is_returned_before_the_access_change_is_read,
    a_rotated_key_is_returned_and_the_old_key_is_refused,
    a_changed_role_is_returned_before_the_access_change_is_read,
    a_changed_password_returns_a_valid_session,
}

async fn a_created_key_is_returned_before_the_access_change_is_read(sg: TestServer) {
    let mut client = sg.admin().service_principals();
    let change = async move {
        let request = pb::CreateServicePrincipalRequest {
            name: "ci".to_owned(),
            role: pb::Role::Viewer.into(),
            ..Default::default()
        };
        client.create_service_principal(request).await
    };
    // No right was revoked, so other callers are served in the meantime.
    let others = async || who(&sg, &sg.admin_key).await.unwrap();
    let key = unread(&sg, change, others).await.key;
    caught_up(&sg).await;
    who(&sg, &key).await.unwrap();
    let recorded = outcomes(&sg, "service_principal.create").await;
    assert!(recorded.iter().all(|outcome| *outcome == pb::AuditOutcome::Ok), "{recorded:?}");
    sg.finish().await;
}

async fn a_rotated_key_is_returned_and_the_old_key_is_refused(sg: TestServer) {
    let old = sg.admin().create_key("ci", pb::Role::Viewer).await;
    let mut client = sg.admin().service_principals();
    let change = async move {
        let request = pb::RotateServicePrincipalRequest {
            service_principal: "ci".to_owned(),
            ..Default::default()
        };
        client.rotate_service_principal(request).await
    };
    let refused = async || {
        assert_refused!(who(&sg, &old).await, Unavailable, "ACCESS_STALE");
    };
    let new = unread(&sg, change, refused).await.key;
    caught_up(&sg).await;
    who(&sg, &new).await.unwrap();
    assert_refused!(who(&sg, &old).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert_eq!(outcomes(&sg, "service_principal.rotate").await, [pb::AuditOutcome::Ok]);
    sg.finish().await;
}

async fn a_changed_role_is_returned_before_the_access_change_is_read(sg: TestServer) {
    let key = sg.admin().create_key("ci", pb::Role::Admin).await;
    let mut client = sg.admin().service_principals();
    let change = async move {
        let request = pb::UpdateServicePrincipalRequest {
            service_principal: "ci".to_owned(),
            role: pb::Role::Viewer.into(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["role".to_owned()] }),
            ..Default::default()
        };
        client.update_service_principal(request).await
    };
    let refused = async || {
        assert_refused!(who(&sg, &key).await, Unavailable, "ACCESS_STALE");
    };
    let changed = unread(&sg, change, refused).await.service_principal.unwrap();
    assert_eq!(changed.role(), pb::Role::Viewer);
    caught_up(&sg).await;
    assert_eq!(outcomes(&sg, "service_principal.update").await, [pb::AuditOutcome::Ok]);
    sg.finish().await;
}

async fn a_changed_password_returns_a_valid_session(sg: TestServer) {
    let login =
        pb::LoginRequest { email: ADMIN_EMAIL.to_owned(), password: ADMIN_PASSWORD.to_owned() };
    let session = sg.anonymous().auth().login(login).await.unwrap().into_inner();
    let mut client = sg.with_token(&session.session_token).auth();
    let change = async move {
        let request = pb::ChangePasswordRequest {
            current_password: ADMIN_PASSWORD.to_owned(),
            new_password: "another horse battery".to_owned(),
            ..Default::default()
        };
        client.change_password(request).await
    };
    let fresh = unread(&sg, change, async || {}).await.session_token;
    caught_up(&sg).await;
    who(&sg, &fresh).await.unwrap();
    assert_eq!(outcomes(&sg, "user.change_password").await, [pb::AuditOutcome::Ok]);
    sg.finish().await;
}
