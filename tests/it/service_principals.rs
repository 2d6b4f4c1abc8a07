//! Service principals, through the API.

use std::time::Duration;

use shoreguard::access::policy::StreamingMode;
use shoreguard::feed;
use shoreguard::outbox::{AccessSubject, log_change};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::service_principals::domain::SERVICE_PRINCIPALS_MAX;
use shoreguard::resources::service_principals::worker::LAST_USED;
use shoreguard::workers;
use tonic::Status;

use crate::support::server::TestServer;
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, Caller};
use crate::support::soon;

pub(crate) fn create_request(name: &str, role: pb::Role) -> pb::CreateServicePrincipalRequest {
    let (name, role) = (name.to_owned(), role.into());
    pb::CreateServicePrincipalRequest { name, role, ..Default::default() }
}

pub(crate) async fn get_principal(admin: &Caller, name: &str) -> pb::ServicePrincipal {
    let request = pb::GetServicePrincipalRequest { service_principal: name.to_owned() };
    let found = admin.service_principals().get_service_principal(request).await.unwrap();
    found.into_inner().service_principal.unwrap()
}

/// Returns an update of these fields.
fn update(name: &str, paths: &[&str]) -> pb::UpdateServicePrincipalRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateServicePrincipalRequest {
        service_principal: name.to_owned(),
        update_mask: Some(prost_types::FieldMask { paths }),
        ..Default::default()
    }
}

pub(crate) fn rotate_request(name: &str, overlap: Duration) -> pb::RotateServicePrincipalRequest {
    pb::RotateServicePrincipalRequest {
        service_principal: name.to_owned(),
        overlap: Some(overlap.try_into().unwrap()),
        ..Default::default()
    }
}

pub(crate) async fn rotate_key(admin: &Caller, name: &str, overlap: Duration) -> String {
    let answer =
        admin.service_principals().rotate_service_principal(rotate_request(name, overlap)).await;
    answer.unwrap().into_inner().key
}

pub(crate) async fn identity(caller: &Caller) -> Result<pb::GetCurrentIdentityResponse, Status> {
    let answer = caller.auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await?;
    Ok(answer.into_inner())
}

pub(crate) async fn watch_events(caller: &Caller) -> tonic::Streaming<pb::WatchEventsResponse> {
    let watch = pb::WatchEventsRequest { after_sequence: -1, ..Default::default() };
    caller.events().watch_events(watch).await.unwrap().into_inner()
}

/// Returns how a stream ends. It must end within a second, and later only on a busy machine.
pub(crate) async fn stream_end(
    mut stream: tonic::Streaming<pb::WatchEventsResponse>,
) -> Result<(), Status> {
    let ended = async {
        while stream.message().await?.is_some() {}
        Ok(())
    };
    soon("the stream ends", ended).await
}

server_tests! {
    a_rotated_key_is_refused_and_the_new_key_works,
    an_expired_key_is_refused,
    service_principal_names_are_unique_and_lists_are_paged,
    a_repeat_with_the_same_request_id_returns_the_first_response,
    only_a_global_admin_creates_keys,
    an_update_applies_from_the_next_call,
    an_invalid_update_is_refused_and_changes_nothing,
    a_legacy_key_without_a_prefix_is_listed_and_works,
    the_last_use_of_a_key_is_stored_at_most_once_a_minute,
    the_creator_of_a_key_is_stored_and_long_names_are_refused,
    a_key_in_the_query_string_is_not_accepted_as_a_credential,
    the_number_of_service_principals_is_limited,
}

async fn a_rotated_key_is_refused_and_the_new_key_works(sg: TestServer) {
    let admin = sg.admin();
    let key = admin.create_key("ci", pb::Role::Operator).await;
    let who = sg
        .with_token(&key)
        .auth()
        .get_current_identity(pb::GetCurrentIdentityRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((who.actor.as_str(), who.role()), ("sp:ci", pb::Role::Operator));

    let request =
        pb::RotateServicePrincipalRequest { service_principal: "ci".into(), ..Default::default() };
    let rotated =
        admin.service_principals().rotate_service_principal(request).await.unwrap().into_inner();
    let refused = identity(&sg.with_token(&key)).await;
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    sg.with_token(&rotated.key)
        .auth()
        .get_current_identity(pb::GetCurrentIdentityRequest {})
        .await
        .unwrap();

    let request = pb::DeleteServicePrincipalRequest {
        service_principal: "ci".into(),
        etag: "v1".into(),
        ..Default::default()
    };
    assert_refused!(
        admin.service_principals().delete_service_principal(request).await,
        Aborted,
        "CONCURRENT_CHANGE"
    );
    let request = pb::DeleteServicePrincipalRequest {
        service_principal: "ci".into(),
        etag: "v2".into(),
        ..Default::default()
    };
    admin.service_principals().delete_service_principal(request).await.unwrap();
    let refused = identity(&sg.with_token(&rotated.key)).await;
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    sg.finish().await;
}

async fn an_expired_key_is_refused(sg: TestServer) {
    let at = sg.app.clock.now().plus(Duration::from_mins(1));
    let request = pb::CreateServicePrincipalRequest {
        name: "brief".into(),
        role: pb::Role::Viewer.into(),
        expire_time: Some(shoreguard::rpc::wire::to_timestamp(at)),
        ..Default::default()
    };
    let key = sg
        .admin()
        .service_principals()
        .create_service_principal(request)
        .await
        .unwrap()
        .into_inner()
        .key;
    let caller = sg.with_token(&key);
    caller.auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await.unwrap();
    sg.pass(Duration::from_secs(61)).await;
    let refused = caller.auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await;
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    sg.finish().await;
}

async fn service_principal_names_are_unique_and_lists_are_paged(sg: TestServer) {
    let admin = sg.admin();
    for n in 0..5 {
        admin.create_key(&format!("p{n}"), pb::Role::Viewer).await;
    }
    let again = pb::CreateServicePrincipalRequest {
        name: "p0".into(),
        role: pb::Role::Viewer.into(),
        ..Default::default()
    };
    assert_refused!(
        admin.service_principals().create_service_principal(again).await,
        AlreadyExists,
        "ALREADY_EXISTS"
    );

    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let request = pb::ListServicePrincipalsRequest { page_size: 2, page_token: token.clone() };
        let page =
            admin.service_principals().list_service_principals(request).await.unwrap().into_inner();
        assert!(page.service_principals.len() <= 2);
        names.extend(page.service_principals.into_iter().map(|p| p.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4", "root"]);
    sg.finish().await;
}

async fn a_repeat_with_the_same_request_id_returns_the_first_response(sg: TestServer) {
    let admin = sg.admin();
    let id = "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a01".to_owned();
    let request = pb::CreateServicePrincipalRequest {
        name: "once".into(),
        role: pb::Role::Viewer.into(),
        request_id: id.clone(),
        ..Default::default()
    };
    let first = admin
        .service_principals()
        .create_service_principal(request.clone())
        .await
        .unwrap()
        .into_inner();
    let again = admin
        .service_principals()
        .create_service_principal(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    let other = pb::CreateServicePrincipalRequest { name: "other".into(), ..request.clone() };
    assert_refused!(
        admin.service_principals().create_service_principal(other).await,
        InvalidArgument,
        "REQUEST_ID_REUSED"
    );
    for bad in ["1", "00000000-0000-0000-0000-000000000000"] {
        let request =
            pb::CreateServicePrincipalRequest { request_id: bad.into(), ..request.clone() };
        assert_refused!(
            admin.service_principals().create_service_principal(request).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    sg.finish().await;
}

async fn only_a_global_admin_creates_keys(sg: TestServer) {
    let key = sg.admin().create_key("op", pb::Role::Operator).await;
    let request = pb::CreateServicePrincipalRequest {
        name: "x".into(),
        role: pb::Role::Viewer.into(),
        ..Default::default()
    };
    assert_refused!(
        sg.with_token(&key).service_principals().create_service_principal(request.clone()).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_refused!(
        sg.anonymous().service_principals().create_service_principal(request).await,
        Unauthenticated,
        "CREDENTIAL_MISSING"
    );
    sg.finish().await;
}

async fn an_update_applies_from_the_next_call(sg: TestServer) {
    let admin = sg.admin();
    let key = admin.create_key("ci", pb::Role::None).await;
    let ci = sg.with_token(&key);
    let raise = pb::UpdateServicePrincipalRequest {
        role: pb::Role::Operator.into(),
        ..update("ci", &["role"])
    };
    let raised = admin
        .service_principals()
        .update_service_principal(raise)
        .await
        .unwrap()
        .into_inner()
        .service_principal
        .unwrap();
    assert_eq!(
        (raised.role(), raised.etag.as_str(), raised.expire_time),
        (pb::Role::Operator, "v2", None)
    );
    assert_eq!(identity(&ci).await.unwrap().role(), pb::Role::Operator);
    let stream = watch_events(&ci).await;
    let lower = pb::UpdateServicePrincipalRequest {
        role: pb::Role::None.into(),
        etag: "v2".into(),
        ..update("ci", &["role"])
    };
    admin.service_principals().update_service_principal(lower.clone()).await.unwrap();
    assert_eq!(identity(&ci).await.unwrap().role(), pb::Role::None);
    assert_refused!(stream_end(stream).await, PermissionDenied, "ROLE_TOO_LOW");
    assert_refused!(
        admin.service_principals().update_service_principal(lower).await,
        Aborted,
        "CONCURRENT_CHANGE"
    );

    let at = sg.app.clock.now().plus(Duration::from_mins(2));
    let at = Some(shoreguard::rpc::wire::to_timestamp(at));
    let brief =
        pb::UpdateServicePrincipalRequest { expire_time: at, ..update("ci", &["expire_time"]) };
    let changed = admin
        .service_principals()
        .update_service_principal(brief)
        .await
        .unwrap()
        .into_inner()
        .service_principal
        .unwrap();
    assert_eq!((changed.expire_time, changed.role()), (at, pb::Role::None));
    assert_eq!(identity(&ci).await.unwrap().expire_time, at);
    sg.app.clock.advance(Duration::from_mins(2));
    assert_refused!(identity(&ci).await, Unauthenticated, "CREDENTIAL_INVALID");
    // Without a time the key does not expire. A key that was rejected only because it had expired is valid again.
    admin
        .service_principals()
        .update_service_principal(update("ci", &["expire_time"]))
        .await
        .unwrap();
    assert_eq!(identity(&ci).await.unwrap().expire_time, None);
    sg.finish().await;
}

async fn an_invalid_update_is_refused_and_changes_nothing(sg: TestServer) {
    let admin = sg.admin();
    admin.create_key("ci", pb::Role::Viewer).await;
    let now = Some(shoreguard::rpc::wire::to_timestamp(sg.app.clock.now()));
    for request in [
        update("ci", &[]),
        pb::UpdateServicePrincipalRequest { update_mask: None, ..update("ci", &[]) },
        update("ci", &["name"]),
        update("ci", &["role", "key_prefix"]),
        update("ci", &["role"]),
        update("", &["expire_time"]),
        update("a\0b", &["expire_time"]),
        pb::UpdateServicePrincipalRequest { expire_time: now, ..update("ci", &["expire_time"]) },
    ] {
        assert_refused!(
            admin.service_principals().update_service_principal(request).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    assert_refused!(
        admin
            .service_principals()
            .update_service_principal(update("nobody", &["expire_time"]))
            .await,
        NotFound,
        "NOT_FOUND"
    );
    assert_eq!(get_principal(&admin, "ci").await.etag, "v1");
    sg.finish().await;
}

async fn a_legacy_key_without_a_prefix_is_listed_and_works(sg: TestServer) {
    let admin = sg.admin();
    let key = admin.create_key("old", pb::Role::Viewer).await;
    // As stored by an older system: no prefix, and a key that does not begin with `sg_`.
    let hash = shoreguard::seal::hex(&<sha2::Sha256 as sha2::Digest>::digest(b"legacy-key"));
    sg.sql(&format!(
        "UPDATE service_principals SET key_prefix = NULL, key_hash = '{hash}' WHERE name = 'old'"
    ))
    .await;
    let now = sg.app.clock.now();
    let id = AccessSubject::ServicePrincipal(get_principal(&admin, "old").await.id.into());
    sg.app.db.transaction(async |conn| log_change(conn, id, now).await).await.unwrap();
    feed::refresh(&sg.app).await.unwrap();
    let all = admin
        .service_principals()
        .list_service_principals(pb::ListServicePrincipalsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let shown: Vec<_> =
        all.service_principals.iter().map(|p| (p.name.as_str(), p.key_prefix.len())).collect();
    assert_eq!(shown, [("old", 0), ("root", 12)]);
    assert_eq!(identity(&sg.with_token("legacy-key")).await.unwrap().actor, "sp:old");
    assert_refused!(identity(&sg.with_token(&key)).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert_eq!(rotate_key(&admin, "old", Duration::ZERO).await.len(), 46);
    sg.finish().await;
}

async fn the_last_use_of_a_key_is_stored_at_most_once_a_minute(sg: TestServer) {
    let admin = sg.admin();
    let ci = sg.with_token(&admin.create_key("ci", pb::Role::Viewer).await);
    let minute = Duration::from_mins(1);
    assert_eq!((LAST_USED.interval)(&sg.app.config), minute);
    let noted = async || get_principal(&admin, "ci").await.last_used_time;
    let used = async || {
        for _ in 0..20 {
            identity(&ci).await.unwrap();
        }
    };
    let moved = async |by| {
        sg.pass(by).await;
    };
    used().await;
    assert_eq!(noted().await, None, "a call itself writes nothing");
    workers::run_once(&sg.app, &LAST_USED).await.unwrap();
    let first = noted().await.unwrap();
    // Not even if several replicas store uses at different times.
    moved(Duration::from_secs(50)).await;
    used().await;
    workers::run_once(&sg.app, &LAST_USED).await.unwrap();
    assert_eq!(noted().await, Some(first));
    moved(minute).await;
    workers::run_once(&sg.app, &LAST_USED).await.unwrap();
    assert_eq!(noted().await, Some(first), "the key was not used since");
    used().await;
    workers::run_once(&sg.app, &LAST_USED).await.unwrap();
    let second = noted().await.unwrap();
    assert!(second.seconds >= first.seconds + 60, "{first:?} {second:?}");
    assert_eq!(get_principal(&admin, "ci").await.etag, "v1");
    sg.finish().await;
}

async fn the_creator_of_a_key_is_stored_and_long_names_are_refused(sg: TestServer) {
    let login = pb::LoginRequest { email: ADMIN_EMAIL.into(), password: ADMIN_PASSWORD.into() };
    let session = sg.anonymous().auth().login(login).await.unwrap().into_inner().session_token;
    let person = sg.with_token(&session);
    let id: i64 =
        identity(&person).await.unwrap().principal.strip_prefix("user:").unwrap().parse().unwrap();
    person.create_key("by-hand", pb::Role::Viewer).await;
    let program = sg.admin();
    program.create_key("by-program", pb::Role::Viewer).await;
    assert_eq!(get_principal(&program, "by-hand").await.created_by, id);
    // The creator that is a service principal is recorded only in the audit log.
    assert_eq!(get_principal(&program, "by-program").await.created_by, 0);
    sg.app.audit.wait_settled().await;
    let entries = pb::ListAuditEntriesRequest {
        action: "service_principal.create".into(),
        resource_id: "by-program".into(),
        ..Default::default()
    };
    let entries =
        program.audit().list_audit_entries(entries).await.unwrap().into_inner().audit_entries;
    assert_eq!(entries[0].actor, "sp:root");

    let longest = "\u{e4}".repeat(100);
    program.create_key(&longest, pb::Role::Viewer).await;
    let longer = create_request(&format!("{longest}a"), pb::Role::Viewer);
    assert_refused!(
        program.service_principals().create_service_principal(longer).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    sg.finish().await;
}

async fn a_key_in_the_query_string_is_not_accepted_as_a_credential(sg: TestServer) {
    let path = "/shoreguard.v1.AuthService/GetCurrentIdentity";
    for name in ["token", "access_token", "key", "api_key", "authorization"] {
        let asked: &'static str = format!("{path}?{name}={}", sg.admin_key).leak();
        let answer = sg.anonymous().call_raw(asked, StreamingMode::Unary, vec![], &[]).await;
        assert!(!format!("{answer:?}").contains(&sg.admin_key), "the key is not repeated");
        // A path with a query names no method.
        assert_refused!(answer, Unimplemented, "METHOD_UNKNOWN");
    }
    // The same path, with the key in the header.
    sg.admin().call_raw(path, StreamingMode::Unary, vec![], &[]).await.unwrap();
    sg.finish().await;
}

async fn the_number_of_service_principals_is_limited(sg: TestServer) {
    let admin = sg.admin();
    // The first admin's key counts, too.
    let rest = SERVICE_PRINCIPALS_MAX - 2;
    sg.sql(&format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rest}) \
            INSERT INTO service_principals (name, key_hash, role, created_at) \
            SELECT 'p' || i, substr('0000000000000000000000000000000000000000000000000000000000000000' || i, length('' || i) + 1), 'none', created_at \
            FROM n, service_principals WHERE name = 'root'")).await;
    admin.create_key("last", pb::Role::None).await;
    assert_refused!(
        admin
            .service_principals()
            .create_service_principal(create_request("more", pb::Role::None))
            .await,
        FailedPrecondition,
        "LIMIT_REACHED"
    );
    // A rotation does not add a service principal.
    rotate_key(&admin, "last", Duration::ZERO).await;
    sg.finish().await;
}

server_tests! {
    tuned |config| config.limits.credentials_per_minute = 3;
    key_creations_and_rotations_are_rate_limited_per_caller,
}

async fn key_creations_and_rotations_are_rate_limited_per_caller(sg: TestServer) {
    // The first admin has created the first key, as a user with a limit of its own.
    let admin = sg.admin();
    let other = sg.with_token(&admin.create_key("other", pb::Role::Admin).await);
    admin.create_key("ci", pb::Role::Viewer).await;
    rotate_key(&admin, "ci", Duration::ZERO).await;
    let rotation = admin
        .service_principals()
        .rotate_service_principal(rotate_request("ci", Duration::ZERO))
        .await;
    assert_refused!(rotation, ResourceExhausted, "RATE_LIMITED");
    let creation = admin
        .service_principals()
        .create_service_principal(create_request("more", pb::Role::None))
        .await;
    assert_refused!(creation, ResourceExhausted, "RATE_LIMITED");
    other.create_key("theirs", pb::Role::None).await;
    sg.finish().await;
}
