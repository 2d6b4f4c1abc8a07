//! Tests of keys that are replaced, with and without an overlap.

use crate::service_principals::{
    create_request, get_principal, identity, rotate_key, rotate_request, stream_end, watch_events,
};
use crate::support::server::TestServer;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::service_principals::domain::OVERLAP_MAX;
use std::time::Duration;

server_tests! {
    during_an_overlap_two_keys_are_valid_and_never_three,
    an_overlap_is_at_most_a_week_and_ends_with_the_principal,
    t14_a_rotation_without_overlap_revokes_older_keys_and_their_streams,
    t14_the_streams_of_a_rotated_key_end_with_its_overlap,
}

async fn during_an_overlap_two_keys_are_valid_and_never_three(sg: TestServer) {
    let admin = sg.admin();
    let overlap = Duration::from_secs(3);
    let first = sg.with_token(&admin.create_key("ci", pb::Role::Viewer).await);
    let second = sg.with_token(&rotate_key(&admin, "ci", overlap).await);
    let ends = sg.app.clock.now().plus(overlap);
    // The first key reports when it expires. The second does not expire.
    let told = identity(&first).await.unwrap().expire_time.unwrap();
    assert!(told.seconds <= shoreguard::rpc::wire::to_timestamp(ends).seconds);
    assert_eq!(get_principal(&admin, "ci").await.previous_key_expire_time, Some(told));
    assert_eq!(identity(&second).await.unwrap().expire_time, None);

    let third = sg.with_token(&rotate_key(&admin, "ci", overlap).await);
    assert_refused!(identity(&first).await, Unauthenticated, "CREDENTIAL_INVALID");
    identity(&second).await.unwrap();
    identity(&third).await.unwrap();
    sg.app.clock.advance(overlap);
    assert_refused!(identity(&second).await, Unauthenticated, "CREDENTIAL_INVALID");
    identity(&third).await.unwrap();
    sg.finish().await;
}

async fn an_overlap_is_at_most_a_week_and_ends_with_the_principal(sg: TestServer) {
    let admin = sg.admin();
    let at = sg.app.clock.now().plus(Duration::from_mins(2));
    let expire_time = Some(shoreguard::rpc::wire::to_timestamp(at));
    let request =
        pb::CreateServicePrincipalRequest { expire_time, ..create_request("ci", pb::Role::Viewer) };
    let first = sg.with_token(
        &admin
            .service_principals()
            .create_service_principal(request)
            .await
            .unwrap()
            .into_inner()
            .key,
    );
    for overlap in [
        prost_types::Duration { seconds: 7 * 24 * 60 * 60, nanos: 1 },
        prost_types::Duration { seconds: -1, nanos: 0 },
        prost_types::Duration { seconds: 0, nanos: -1 },
        prost_types::Duration { seconds: 0, nanos: 1_000_000_000 },
        prost_types::Duration { seconds: i64::MAX, nanos: 0 },
    ] {
        let request = pb::RotateServicePrincipalRequest {
            overlap: Some(overlap),
            ..rotate_request("ci", Duration::ZERO)
        };
        assert_refused!(
            admin.service_principals().rotate_service_principal(request).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    let second = sg.with_token(&rotate_key(&admin, "ci", OVERLAP_MAX).await);
    assert_eq!(identity(&first).await.unwrap().expire_time, expire_time);
    sg.app.clock.advance(Duration::from_mins(2));
    assert_refused!(identity(&first).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert_refused!(identity(&second).await, Unauthenticated, "CREDENTIAL_INVALID");
    sg.finish().await;
}

async fn t14_a_rotation_without_overlap_revokes_older_keys_and_their_streams(sg: TestServer) {
    let admin = sg.admin();
    let first = sg.with_token(&admin.create_key("ci", pb::Role::Viewer).await);
    let of_first = watch_events(&first).await;
    let second = sg.with_token(&rotate_key(&admin, "ci", Duration::from_hours(1)).await);
    let of_second = watch_events(&second).await;
    // Both streams continue during the overlap.
    sg.app.live.recheck_all(&sg.app.snapshot);
    assert_eq!(sg.app.live.count(), 2);
    let third = sg.with_token(&rotate_key(&admin, "ci", Duration::ZERO).await);
    for (caller, stream) in [(first, of_first), (second, of_second)] {
        assert_refused!(stream_end(stream).await, Unauthenticated, "CREDENTIAL_INVALID");
        assert_refused!(identity(&caller).await, Unauthenticated, "CREDENTIAL_INVALID");
    }
    identity(&third).await.unwrap();
    assert_eq!(get_principal(&admin, "ci").await.previous_key_expire_time, None);
    sg.finish().await;
}

async fn t14_the_streams_of_a_rotated_key_end_with_its_overlap(sg: TestServer) {
    let admin = sg.admin();
    let first = sg.with_token(&admin.create_key("ci", pb::Role::Admin).await);
    let before = watch_events(&first).await;
    let overlap = Duration::from_secs(3);
    let second = sg.with_token(&rotate_key(&admin, "ci", overlap).await);
    let (during, mut stays) = (watch_events(&first).await, watch_events(&second).await);
    sg.app.clock.advance(overlap);
    // The clock alone ends them: nothing is written at the end of an overlap.
    assert_refused!(stream_end(before).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert_refused!(stream_end(during).await, Unauthenticated, "CREDENTIAL_INVALID");
    sg.app.live.recheck_all(&sg.app.snapshot);
    admin.create_key("later", pb::Role::None).await;
    let told = |answer: pb::WatchEventsResponse| {
        answer.event.is_some_and(|event| event.payload_json.contains("later"))
    };
    while !told(stays.message().await.unwrap().unwrap()) {}
    drop(stays);
    sg.finish().await;
}
