//! Logins by a code that the user approves in another session.

use std::io::{BufRead, BufReader};

use shoreguard::pb::v1 as pb;

use super::{Home, wait};
use crate::commands::text;
use crate::support::people::PASSWORD;
use crate::support::server::{Caller, TestServer};

sqlite_tests! {
    tuned |config| config.auth.device_login = true;
    a_device_is_logged_in_once_its_code_is_approved,
    a_device_is_not_logged_in_if_its_code_is_denied,
}

/// Starts a login of a device, decides about its code, and returns what the command did.
async fn decide(home: &Home, user: &Caller, decision: pb::DeviceDecision) -> std::process::Output {
    let mut process =
        home.command(&["login", "--endpoint", home.endpoint.as_str(), "--device"]).spawn().unwrap();
    let mut errors = BufReader::new(process.stderr.take().unwrap());
    let (code, errors) = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let code = line.trim().strip_prefix("Your code is ").unwrap_or_else(|| panic!("{line}"));
        (code.to_owned(), errors)
    })
    .await
    .unwrap();
    process.stderr = Some(errors.into_inner());
    let request = pb::ApproveDeviceRequest {
        user_code: code,
        decision: decision.into(),
        scope: pb::DeviceScope::Session.into(),
        ..Default::default()
    };
    user.auth().approve_device(request).await.unwrap();
    wait(process).await
}

async fn a_device_is_logged_in_once_its_code_is_approved(sg: TestServer) {
    let home = Home::new(&sg);
    sg.create_user("ana@example.com", pb::Role::Viewer).await;
    let ana = sg.login("ana@example.com").await;
    let done = decide(&home, &ana, pb::DeviceDecision::Approve).await;
    assert!(done.status.success(), "{done:?}");
    assert!(text(&done.stdout).starts_with("ana@example.com is logged in to "), "{done:?}");
    assert!(text(&done.stderr).contains("ana@example.com has approved the code"), "{done:?}");
    assert_eq!(home.succeed(&["whoami", "-o", "name"]).await, "ana@example.com\n");
    let stored = home.stored("credentials.toml");
    assert!(!stored.contains("sgd_") && !stored.contains(PASSWORD));
    sg.finish().await;
}

async fn a_device_is_not_logged_in_if_its_code_is_denied(sg: TestServer) {
    let home = Home::new(&sg);
    sg.create_user("ana@example.com", pb::Role::Viewer).await;
    let ana = sg.login("ana@example.com").await;
    let done = decide(&home, &ana, pb::DeviceDecision::Deny).await;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(text(&done.stderr).contains("DEVICE_LOGIN_DENIED"), "{done:?}");
    assert_eq!(home.stored("credentials.toml"), "");
    sg.finish().await;
}
