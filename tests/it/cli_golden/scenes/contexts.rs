//! The servers that a user has stored.

use super::super::FORMS;
use super::scene::{STORED, Scene};
use crate::support::server::TestServer;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    for form in FORMS {
        scene.act("it is empty", 0, form, STORED, &["context", "list"], "").await;
    }
    let by_key = ["login", "--context", "ci", "--key"];
    scene.plain("ok", 0, STORED, &by_key, &sg.admin_key).await;
    let add = ["context", "add", "prod", "--endpoint", "https://sg.example", "--gateway", "edge"];
    scene.plain("ok", 0, STORED, &add, "").await;
    scene.plain("refused", 2, STORED, &add, "").await;
    scene.plain("ok", 0, STORED, &["context", "use", "prod"], "").await;
    scene.plain("not found", 2, STORED, &["context", "use", "none"], "").await;
    for form in FORMS {
        scene.act("ok", 0, form, STORED, &["context", "list"], "").await;
        scene.act("ok", 0, form, STORED, &["context", "show"], "").await;
        scene.act("ok", 0, form, STORED, &["context", "show", "ci"], "").await;
        scene.act("not found", 2, form, STORED, &["context", "show", "none"], "").await;
    }
    scene.plain("refused", 2, STORED, &["context", "remove", "ci"], "").await;
    scene.plain("ok", 0, STORED, &["context", "remove", "ci", "--yes"], "").await;
    scene.plain("ok", 0, STORED, &["context", "remove", "prod"], "").await;
    scene.plain("not found", 2, STORED, &["context", "remove", "prod"], "").await;
    for form in FORMS {
        scene.act("not found", 2, form, STORED, &["context", "show"], "").await;
    }
}
