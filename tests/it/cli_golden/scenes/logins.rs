//! Logins, who the caller is, and the ends of sessions.

use shoreguard::pb::v1::Role;

use super::super::FORMS;
use super::scene::{ADMIN, ELSEWHERE, STORED, Scene};
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, TestServer};

/// The caller whose key is not valid.
const STRANGER: &str = "stranger";

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    scene.add_caller(STRANGER, "sg_nobody");
    let key = sg.admin().create_key("ci", Role::Viewer).await;
    log_in(scene, &key).await;
    show_caller(scene).await;
    log_out(scene).await;
}

const BY_PASSWORD: [&str; 4] = ["login", "--email", ADMIN_EMAIL, "--password-stdin"];

async fn log_in(scene: &mut Scene, key: &str) {
    scene.plain("ok", 0, STORED, &BY_PASSWORD, ADMIN_PASSWORD).await;
    scene.plain("refused", 4, STORED, &BY_PASSWORD, "wrong horse battery").await;
    scene.plain("server away", 5, ELSEWHERE, &BY_PASSWORD, ADMIN_PASSWORD).await;
    scene.plain("no terminal", 2, STORED, &["login"], "").await;
    scene.plain("not found", 1, STORED, &["login", "--oidc", "none"], "").await;
    scene.plain("no provider", 2, STORED, &["login", "--oidc"], "").await;
    scene.plain("two ways", 2, STORED, &["login", "--device", "--key"], "").await;
    let by_key = ["login", "--context", "ci", "--key"];
    scene.plain("ok", 0, STORED, &by_key, key).await;
    scene.plain("refused", 4, STORED, &by_key, "sg_nobody").await;
    scene.plain("a key is kept", 2, STORED, &BY_PASSWORD, ADMIN_PASSWORD).await;
}

async fn show_caller(scene: &mut Scene) {
    for form in FORMS {
        scene.act("ok", 0, form, STORED, &["whoami"], "").await;
        scene.act("ok", 0, form, STORED, &["whoami", "--context", "127.0.0.1"], "").await;
        scene.act("ok", 0, form, ADMIN, &["whoami"], "").await;
        scene.act("not found", 2, form, STORED, &["whoami", "--context", "none"], "").await;
        scene.act("denied", 4, form, STRANGER, &["whoami"], "").await;
        scene.act("server away", 5, form, ELSEWHERE, &["whoami"], "").await;
    }
}

async fn log_out(scene: &mut Scene) {
    let log_out = ["logout", "--context", "127.0.0.1"];
    scene.plain("ok", 0, STORED, &log_out, "").await;
    scene.plain("no session", 0, STORED, &log_out, "").await;
    scene.plain("not found", 2, STORED, &["logout", "--context", "none"], "").await;
    let again = ["login", "--context", "127.0.0.1", "--email", ADMIN_EMAIL, "--password-stdin"];
    scene.plain("ok", 0, STORED, &again, ADMIN_PASSWORD).await;
    scene.move_stored_away();
    scene.plain("server away", 5, STORED, &log_out, "").await;
    scene.plain("not found", 4, STORED, &["logout"], "").await;
}
