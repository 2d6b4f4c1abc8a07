//! Two boot hooks of a sandbox: their order, what they print, and their end.

use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Generation;

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::boot_hooks::{POST, create_hook, hook_request};
use crate::policies::seeded;
use crate::support::server::TestServer;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    for (name, command) in [("good", "sh -c 'echo ready'"), ("bad", "sh -c 'echo no >&2; exit 4'")]
    {
        let request = pb::CreateBootHookRequest {
            sandbox: "coder".to_owned(),
            ..hook_request(name, POST, command)
        };
        let made = create_hook(&sg.admin(), request).await.unwrap();
        scene.set(name, made.id.to_string());
    }
    for (form, order) in FORMS.into_iter().zip(["{bad} {good}", "{good} {bad}"]) {
        let reorder = format!("boot-hook reorder edge/coder {order} --phase post-create");
        scene.ok(form, ADMIN, &reorder).await;
        scene.ok(form, ADMIN, "boot-hook run edge/coder {good}").await;
        scene.ok(form, ADMIN, "boot-hook run edge/coder {bad}").await;
        scene.ok(form, ADMIN, "boot-hook list edge/coder").await;
    }
    for (form, hook) in FORMS.into_iter().zip(["{good}", "{bad}"]) {
        scene.ok(form, ADMIN, &format!("boot-hook delete edge/coder {hook}")).await;
    }
}
