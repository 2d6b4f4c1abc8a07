//! Pins that are set again: who may lengthen, shorten and remove them, and what of a pin then changes.

use shoreguard::pb::v1 as pb;

use crate::approvals::events;
use crate::policy_pins::{caller, edge, get, in_hours, pin_request, set, unpin};
use crate::support::server::TestServer;

server_tests! {
    t01_a_repeated_pin_only_lengthens_and_keeps_its_first_setter,
    t01_a_pin_is_removed_by_its_setter_or_a_role_at_least_as_high,
    a_pin_that_does_not_get_longer_keeps_its_end_reason_and_role,
}

async fn t01_a_repeated_pin_only_lengthens_and_keeps_its_first_setter(sg: TestServer) {
    let _edge = edge(&sg).await;
    let operator = caller(&sg, "ops", pb::Role::Operator).await;
    let other = caller(&sg, "other", pb::Role::Operator).await;
    let admin = sg.admin();
    let first =
        pb::PinPolicyRequest { reason: "an incident".to_owned(), ..pin_request(in_hours(&sg, 1)) };
    set(&operator, first).await.unwrap();
    // The setter and callers with its role can shorten it.
    set(&other, pin_request(in_hours(&sg, 2))).await.unwrap();
    set(&other, pin_request(in_hours(&sg, 1))).await.unwrap();

    let raised = set(&admin, pin_request(in_hours(&sg, 2))).await.unwrap();
    assert_eq!((raised.pinned_by.as_str(), raised.setter_role()), ("sp:ops", pb::Role::Admin));
    assert_eq!(raised.reason, "an incident", "kept if no reason is given");
    for caller in [&operator, &other] {
        let shorter = set(caller, pin_request(in_hours(&sg, 1))).await;
        assert_refused!(shorter, PermissionDenied, "ROLE_TOO_LOW");
        assert_refused!(unpin(caller, "").await, PermissionDenied, "ROLE_TOO_LOW");
    }
    let end = in_hours(&sg, 4);
    let longer = set(&other, pin_request(end)).await.unwrap();
    assert_eq!((longer.pinned_by.as_str(), longer.setter_role()), ("sp:ops", pb::Role::Admin));
    assert_eq!((longer.expire_time, longer.pinned_version), (end, 2));
    assert_eq!(longer.pin_time, raised.pin_time);
    let shorter = set(&operator, pin_request(in_hours(&sg, 3))).await;
    assert_refused!(shorter, PermissionDenied, "ROLE_TOO_LOW");
    assert_eq!(get(&operator, "edge", "coder").await.unwrap(), longer);
    set(&admin, pin_request(in_hours(&sg, 1))).await.unwrap();
    unpin(&admin, "").await.unwrap();
}

async fn t01_a_pin_is_removed_by_its_setter_or_a_role_at_least_as_high(sg: TestServer) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    let operator = caller(&sg, "ops", pb::Role::Operator).await;
    let boss = caller(&sg, "boss", pb::Role::Admin).await;
    let lower = pb::UpdateServicePrincipalRequest {
        service_principal: "boss".to_owned(),
        role: pb::Role::Operator.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["role".to_owned()] }),
        ..Default::default()
    };
    set(&boss, pin_request(None)).await.unwrap();
    admin.service_principals().update_service_principal(lower).await.unwrap();
    assert_refused!(unpin(&operator, "").await, PermissionDenied, "ROLE_TOO_LOW");
    unpin(&boss, "").await.expect("it is the setter, with a lower role by now");

    // An admin who pins again without lengthening does not take the pin from its setter.
    set(&operator, pin_request(in_hours(&sg, 2))).await.unwrap();
    set(&admin, pin_request(None)).await.unwrap();
    unpin(&operator, "").await.unwrap();
    // An admin who lengthens it does.
    set(&operator, pin_request(in_hours(&sg, 2))).await.unwrap();
    set(&admin, pin_request(in_hours(&sg, 3))).await.unwrap();
    assert_refused!(unpin(&operator, "").await, PermissionDenied, "ROLE_TOO_LOW");
    unpin(&admin, "").await.unwrap();
}

async fn a_pin_that_does_not_get_longer_keeps_its_end_reason_and_role(sg: TestServer) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    let operator = caller(&sg, "ops", pb::Role::Operator).await;
    let with_reason = |reason: &str, expire_time| pb::PinPolicyRequest {
        reason: reason.to_owned(),
        ..pin_request(expire_time)
    };
    let end = in_hours(&sg, 2);
    let first = set(&admin, with_reason("an incident", end)).await.unwrap();
    for expire_time in [None, end] {
        let again = set(&operator, with_reason("mine", expire_time)).await.unwrap();
        assert_eq!(again, first, "also its etag");
    }
    assert_eq!(events(&sg, "policy.pinned").await, 1);
    let later = in_hours(&sg, 3);
    let longer = set(&operator, with_reason("a longer incident", later)).await.unwrap();
    assert_eq!((longer.expire_time, longer.reason.as_str()), (later, "a longer incident"));
    assert_eq!(longer.setter_role(), pb::Role::Admin);
    unpin(&admin, "").await.unwrap();

    set(&operator, pin_request(end)).await.unwrap();
    let explained = set(&admin, with_reason("an audit", None)).await.unwrap();
    assert_eq!((explained.expire_time, explained.reason.as_str()), (end, "an audit"));
    assert_eq!(explained.setter_role(), pb::Role::Operator);
    assert_eq!(get(&operator, "edge", "coder").await.unwrap(), explained);
}
