//! `docs/audit.md` lists every audit action and every event, and nothing else.

use shoreguard::access::action::Action;
use shoreguard::access::policy::{AuditMode, METHODS, UPSTREAM_V0_0, UPSTREAM_V0_1};
use shoreguard::outbox::event_types::{ALL, Audience, FORMER};

use super::{read_file, rust_files};

/// Actions of the Python system, the predecessor of Shoreguard, sorted by name. Operators search for them, and stored
/// entries have them.
const PREDECESSOR_ACTIONS: &[&str] = &[
    "approval.approve",
    "approval.approve_all",
    "approval.clear",
    "approval.edit",
    "approval.reject",
    "approval.undo",
    "approval.vote_cast",
    "approval.workflow.delete",
    "approval.workflow.upsert",
    "auth.forbidden",
    "boot_hook.created",
    "boot_hook.deleted",
    "boot_hook.manual_run",
    "boot_hook.reordered",
    "boot_hook.updated",
    "gateway.cert_rotated",
    "gateway.create",
    "gateway.destroy",
    "gateway.discovered",
    "gateway.inference_bundle.viewed",
    "gateway.register",
    "gateway.restart",
    "gateway.setting_delete",
    "gateway.setting_update",
    "gateway.start",
    "gateway.stop",
    "gateway.unregister",
    "gateway.update_metadata",
    "group.create",
    "group.delete",
    "group.gateway_role.remove",
    "group.gateway_role.set",
    "group.member.add",
    "group.member.remove",
    "group.update",
    "inference.update",
    "oidc.create",
    "oidc.link",
    "oidc.login",
    "policy.applied",
    "policy.apply.dry_run",
    "policy.apply.noop",
    "policy.apply.voted",
    "policy.exported",
    "policy.filesystem.add",
    "policy.filesystem.delete",
    "policy.network_rule.add",
    "policy.network_rule.delete",
    "policy.pinned",
    "policy.preset.apply",
    "policy.process.update",
    "policy.unpinned",
    "policy.update",
    "provider.create",
    "provider.delete",
    "provider.update",
    "sandbox.create",
    "sandbox.delete",
    "sandbox.exec",
    "sandbox.metadata.update",
    "sandbox.policy.analyze",
    "sandbox.ssh.create",
    "sandbox.ssh.revoke",
    "sbom.deleted",
    "sbom.uploaded",
    "sp.create",
    "sp.delete",
    "sp.gateway_role.remove",
    "sp.gateway_role.set",
    "sp.rotate",
    "user.delete",
    "user.gateway_role.remove",
    "user.gateway_role.set",
    "user.invite",
    "user.invite.accept",
    "user.login",
    "user.login_failed",
    "user.logout",
    "user.register",
    "user.setup",
    "webhook.create",
    "webhook.delete",
    "webhook.test",
    "webhook.update",
];

/// Returns the cells of the rows of the table with this first column.
fn table(first_column: &str) -> Vec<Vec<String>> {
    let text = read_file("docs/audit.md").text;
    let table = text.split(&format!("| {first_column} |")).nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
}

#[test]
fn the_documents_list_every_audit_action() {
    let listed: Vec<String> = table("action").into_iter().map(|row| row[0].clone()).collect();
    let actions: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    assert_eq!(listed, actions);
}

/// Returns each RPC that a caller can reach, as the document names it, with its action and what the log stores of it.
fn rpcs() -> impl Iterator<Item = (String, Action, AuditMode)> {
    let own = METHODS.iter().map(|method| (last_part(method.path), method.action, method.audit));
    let upstream = UPSTREAM_V0_0.iter().chain(UPSTREAM_V0_1.iter());
    let proxied = upstream.filter_map(|method| {
        let policy = method.policy.as_ref()?;
        Some((format!("{} (proxied)", last_part(method.path)), policy.action, policy.audit))
    });
    own.chain(proxied)
}

fn last_part(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn the_documents_name_the_rpcs_of_every_action_and_what_is_stored() {
    let rows = table("action");
    let rpcs: Vec<(String, Action, AuditMode)> = rpcs().collect();
    for (rpc, action, audit) in &rpcs {
        let row = rows.iter().find(|row| row[0] == action.as_str()).unwrap();
        let stored = match audit {
            AuditMode::None => "refusals",
            AuditMode::Read => "read",
            AuditMode::Write => "write",
        };
        assert_eq!(row[1], stored, "{rpc}");
        assert!(row[2].split(", ").any(|by| by == rpc), "{rpc} is missing: {row:?}");
    }
    for row in &rows {
        // Anything else is a phrase, such as `The command line`.
        let is_rpc = |by: &&str| !by.trim_end_matches(" (proxied)").contains(' ');
        for by in row[2].split(", ").filter(is_rpc) {
            let found = rpcs.iter().any(|(rpc, action, _)| rpc == by && action.as_str() == row[0]);
            assert!(found, "{by} does not have the action: {row:?}");
        }
    }
}

#[test]
fn an_action_without_an_rpc_is_used_in_the_code() {
    let (files, rpcs) = (rust_files(&["src"]), rpcs().collect::<Vec<_>>());
    let has_rpc = |action: &&Action| rpcs.iter().any(|(_, of_rpc, _)| of_rpc == *action);
    for action in Action::ALL.iter().filter(|action| !has_rpc(action)) {
        let constant = format!("Action::{}", action.as_str().replace('.', "_").to_uppercase());
        let is_used = files.iter().any(|file| file.text.contains(&constant));
        assert!(is_used, "{constant} is not used: remove it from build/actions.rs");
    }
}

#[test]
fn the_documents_list_every_action_of_the_predecessor_once() {
    let (text, rows) = (read_file("docs/audit.md").text, table("action"));
    let sentence = text.split("have no counterpart").nth(1).unwrap().split("\n\n").next().unwrap();
    let without = sentence.split('`').skip(1).step_by(2);
    let mapped = rows.iter().flat_map(|row| row[3].split(", ")).map(|name| name.trim_matches('`'));
    let mut listed: Vec<&str> = mapped.filter(|name| !name.is_empty()).chain(without).collect();
    listed.sort_unstable();
    assert_eq!(listed, PREDECESSOR_ACTIONS);
}

#[test]
fn the_documents_list_every_event_with_its_minimum_role_and_former_name() {
    let former = |name: &str| {
        let of_type = FORMER.iter().find(|(_, event_type)| event_type.name() == name);
        of_type.map_or(String::new(), |(former, _)| (*former).to_owned())
    };
    let events: Vec<Vec<String>> = ALL
        .iter()
        .map(|(event_type, what)| {
            let least = match event_type.audience() {
                Audience::Gateway(role) => role.to_string(),
                Audience::GlobalAdmins => "global admin".to_owned(),
            };
            let name = event_type.name().to_owned();
            vec![name.clone(), least, (*what).to_owned(), former(&name)]
        })
        .collect();
    assert_eq!(table("event"), events);
}
