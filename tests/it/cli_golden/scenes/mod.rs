//! Commands that need more than the stage of all cases to succeed, and commands that are written by hand. Each scene
//! has a server of its own without background jobs, so that nothing changes by itself, and becomes one golden file.

mod approvals;
mod boot_hooks;
mod calls;
mod contexts;
mod credentials;
mod discovery;
mod drafts;
mod exec;
mod logins;
mod operations;
mod policy_applies;
mod policy_files;
mod sboms;
mod scene;
mod sessions;
mod setup;
mod watches;
mod webhooks;
mod workflows;

use shoreguard::db::Engine;

use crate::support::server::{TestServer, run_tuned_without_jobs};
use crate::webhooks::allow_loopback;
use scene::Scene;

/// Makes one test for each scene: its name, what it changes in the configuration, and commands that must succeed in it,
/// each in every form that it has.
macro_rules! scenes {
    ($($scene:ident($tune:expr): [$($command:literal),+ $(,)?],)+) => {
        /// Commands that succeed in a scene.
        pub(super) const COMMANDS: &[&str] = &[$($($command),+),+];

        $(#[test]
        fn $scene() {
            run_tuned_without_jobs(Engine::Sqlite, $tune, |sg: TestServer| async move {
                let mut scene = Scene::build(&sg).await;
                Box::pin($scene::play(&sg, &mut scene)).await;
                sg.finish().await;
                scene.finish(stringify!($scene), &[$($command),+]);
            });
        })+
    };
}

scenes! {
    approvals(|_| {}): [
        "approval get",
        "approval decisions",
        "approval watch",
        "approval approve",
        "approval reject",
        "approval retract",
        "approval vote-many",
        "approval withdraw",
        "policy edit",
    ],
    boot_hooks(|_| {}): ["boot-hook reorder", "boot-hook run", "boot-hook delete"],
    calls(|_| {}): ["call"],
    contexts(|_| {}): [
        "context add",
        "context list",
        "context remove",
        "context show",
        "context use",
    ],
    credentials(|_| {}): ["gateway rotate-credentials"],
    discovery(discovery::configure): ["gateway discover"],
    drafts(|_| {}): ["approval edit", "approval undo", "approval clear"],
    exec(|_| {}): ["sandbox exec"],
    logins(|_| {}): ["login", "logout", "whoami"],
    operations(|_| {}): [
        "operation cancel",
        "operation wait",
        "sandbox run",
        "sandbox revoke-ssh",
    ],
    policy_applies(|_| {}): ["policy apply"],
    policy_files(|_| {}): ["policy export", "policy diff"],
    sboms(|_| {}): [
        "sbom upload",
        "sbom get",
        "sbom components",
        "sbom vulnerabilities",
        "sbom download",
        "sbom diff",
        "sbom delete",
    ],
    sessions(sessions::configure): [
        "session list",
        "session revoke",
        "session change-password",
        "session accept-invite",
        "session register",
        "session exchange",
        "session link-oidc",
        "session unlink-oidc",
        "session approve-device",
    ],
    setup(|_| {}): ["server setup"],
    watches(|_| {}): ["event watch", "gateway watch", "sandbox watch"],
    webhooks(allow_loopback): [
        "webhook get",
        "webhook create",
        "webhook update",
        "webhook test",
        "webhook rotate-secret",
        "webhook delete",
        "webhook deliveries",
        "webhook redeliver",
    ],
    workflows(|_| {}): ["workflow set", "workflow get", "workflow explain"],
}
