//! Rules for the tree: files, folders, names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{FOLDERS, Faults, contains_word, read_file, read_files, root, rust_files};

/// Maximum number of lines of a source file, so that it is easy to understand.
const SOURCE_LINES_MAX: usize = 400;
/// Maximum number of lines of a test file.
const TEST_LINES_MAX: usize = 500;

/// File names that every resource may have.
const RESOURCE_FILES: [&str; 6] =
    ["mod.rs", "rpc.rs", "domain.rs", "store.rs", "tests.rs", "worker.rs"];

/// Other files of resources, each with a reason.
const RESOURCE_EXTRAS: &[(&str, &str)] = &[
    ("approval_workflows/approval_mode.rs", "what a gateway reports of it, in a bounded time"),
    ("approval_workflows/explain.rs", "which rules apply and who votes, read only"),
    ("approval_workflows/input.rs", "what a caller may say of a rule, parsed"),
    ("approval_workflows/messages.rs", "the translation of a service, beside its rpc.rs"),
    ("approval_workflows/review.rs", "opens the review of a weaker rule"),
    ("approval_workflows/rules.rs", "what may replace a stored rule, pure"),
    ("access_bindings/label_changes.rs", "what a change of labels does to access"),
    ("access_bindings/effect", "effective roles inside the transaction that changes them"),
    ("access_bindings/explain.rs", "how roles come about, read from memory"),
    ("access_bindings/list.rs", "one list over the tables of three kinds of holder"),
    (
        "approvals/apply",
        "writes approved policies: the dispatcher, its operations, and how a write without an answer is decided",
    ),
    ("approvals/drafts", "what agents propose: its content, its reviews, and their tables"),
    (
        "approvals/gate",
        "the gate: what a call asks, what is known, what is stored, and the verdict",
    ),
    ("approvals/inbox", "what callers see of reviews, and its queries"),
    ("approvals/messages.rs", "the translation of a large service, beside its rpc.rs"),
    ("approvals/proposals", "a table of its own: documents as their proposers sent them"),
    ("approvals/rounds", "reviews: their table, their content, how they open and end"),
    ("approvals/rule_changes", "the rows of rules that a review has approved to change"),
    ("approvals/rules", "the rows of rules that decide a review"),
    ("approvals/votes", "a table of its own: votes, and the decision by them"),
    ("auth/device.rs", "logins by a code, which no password or issuer proves"),
    ("auth/keys.rs", "the keys of our own tokens"),
    ("auth/messages.rs", "the translation of a large service, beside its rpc.rs"),
    ("auth/oidc", "accounts that issuers vouch for: their rules, and their columns"),
    ("auth/setup.rs", "the token of the first start"),
    ("boot_hooks/input.rs", "what a caller may say of a hook, parsed"),
    ("boot_hooks/sealed.rs", "the variables of a hook at rest"),
    ("boot_hooks/run", "runs hooks: on our host as a process group, in a sandbox by a trait"),
    ("bypass_events/classify.rs", "which lines show a bypass, and by which technique, pure"),
    ("bypass_events/ocsf.rs", "the shorthand of security events, parsed from untrusted text"),
    ("bypass_events/ocsf_tests.rs", "the tests of the parser, line by line"),
    ("bypass_events/refused", "a table of its own: connections that policies have refused"),
    ("device_codes/decide.rs", "what a user gives to a device, beside what a device gets"),
    ("events/follow.rs", "wakes readers when another replica numbers events"),
    ("followers/drafts.rs", "the reviews of what the agent of one sandbox proposes"),
    ("followers/gateway_policy.rs", "gateways with a policy for all sandboxes"),
    ("followers/log_ends.rs", "whether lines of a log follow those of the previous read, pure"),
    ("followers/log_lines.rs", "what the lines of a log show, pure"),
    ("followers/log_memory.rs", "what a follower knows of the logs of the last pass"),
    ("followers/logs.rs", "the logs of sandboxes, read within a budget"),
    ("followers/memory.rs", "what a follower knows of the last pass"),
    ("followers/mode.rs", "gateways that approve by themselves"),
    ("followers/notes.rs", "drafts without a review, and the event about new ones"),
    ("followers/pace.rs", "limits the calls of a follower, pure"),
    ("followers/pass.rs", "one pass over the sandboxes of a gateway"),
    ("followers/pins.rs", "pinned sandboxes that have moved"),
    ("followers/rejected.rs", "the rejections of what the agent of one sandbox proposes"),
    ("followers/settled.rs", "what a pass without a change leaves for the next one, pure"),
    ("followers/state.rs", "sandboxes that appear, disappear and change their phase"),
    ("gateways/budgets", "a table of its own, and the worker that fills it"),
    ("gateways/certificates", "a separate table, and when expiring certificates are reported"),
    ("gateways/change.rs", "what a change may do, and what it drops"),
    ("gateways/discovery", "a table of its own, and how what domains offer is judged"),
    (
        "gateways/findings",
        "columns of their own, and the worker that looks for what is not as it should be",
    ),
    ("gateways/settings.rs", "settings, which the gateway itself keeps"),
    ("gateways/health", "tables of their own: states and probes of a day"),
    ("gateways/input.rs", "what a caller may say of a gateway, parsed"),
    ("gateways/messages.rs", "the translation of a large service, beside its rpc.rs"),
    ("gateways/rotate.rs", "credentials in place of others, proven before they are stored"),
    ("gateways/unregister.rs", "what is deleted with a gateway, in one place"),
    ("gateways/watch.rs", "the changes that watchers of gateways receive"),
    ("policies/changes", "what a change leads to, computed before anything is written"),
    ("policies/messages.rs", "the translation of a service, beside its rpc.rs"),
    ("policy_pins/complete.rs", "what a gateway reports of a pinned sandbox"),
    ("policy_pins/expiry.rs", "the end of one, with its event and audit entry"),
    ("policy_pins/review.rs", "opens the review of a shorter or removed pin"),
    ("policy_pins/rules.rs", "what a repeated pin changes, pure"),
    ("sboms/cyclonedx", "the format, parsed from untrusted bytes"),
    ("sboms/diff.rs", "what is different between two, without a database"),
    ("sboms/intake.rs", "how many documents are received and read at once"),
    ("sboms/lists.rs", "pages of one"),
    ("sboms/place.rs", "the three names of a sandbox, parsed"),
    ("sboms/purl.rs", "package URLs, as far as they are read"),
    ("sboms/recompute.rs", "stored documents, read again by new rules"),
    ("sboms/rows.rs", "the rows of four tables"),
    ("sboms/search", "pages over the fleet, and their queries"),
    ("sboms/ingest.rs", "from a document to rows, off the threads that serve"),
    ("sboms/version", "versions in the order of texts"),
    ("sandboxes/bypass.rs", "bypass events of one sandbox, and how completely its log was read"),
    ("sandboxes/positions", "a table of its own: what was last reported of each sandbox"),
    ("sandboxes/cleanup.rs", "what is deleted with a sandbox, in one place"),
    ("sandboxes/create.rs", "the steps of a creation, and its takeover by another replica"),
    ("sandboxes/exec.rs", "commands in a sandbox"),
    ("sandboxes/first_policy.rs", "the policy of a new sandbox under a rule"),
    ("sandboxes/forwarded.rs", "calls of stock clients that pass the gate"),
    ("sandboxes/forwarded_drafts.rs", "decisions of stock clients about drafts, beside the former"),
    (
        "sandboxes/leftovers.rs",
        "what another one of the name has left, when one is made or the sweep looks",
    ),
    ("sandboxes/fleet.rs", "pages over many gateways, each asked in its time"),
    ("sandboxes/lists.rs", "which sandboxes are requested, and pages of one gateway"),
    ("sandboxes/input.rs", "what a caller may say of a sandbox, parsed"),
    ("sandboxes/templates.rs", "templates of two kinds in one list"),
    ("sandboxes/logs.rs", "which lines of a log are requested"),
    ("sandboxes/lost_response.rs", "the outcome of a creation whose response was lost"),
    ("sandboxes/after_create.rs", "what follows a creation, for each kind of caller"),
    ("sandboxes/presets.rs", "the presets of a template, as the first change of a sandbox"),
    ("sandboxes/stock_client.rs", "creations by stock clients"),
    ("sandboxes/messages.rs", "the translation of a large service, beside its rpc.rs"),
    ("sandboxes/ssh.rs", "sessions, and the rule of who ends them"),
    ("sandboxes/undo.rs", "takes back what a cancelled creation has made"),
    ("operations/begin.rs", "how one begins"),
    ("operations/feed.rs", "wakes callers who wait, by one poll a process"),
    ("operations/finish.rs", "how one ends: its row, its event, its record"),
    ("operations/follow.rs", "the states of one, for a stream"),
    ("operations/leases", "leases: the columns that replicas write beside the work"),
    ("operations/of_gateway", "the operations of a gateway that is unregistered"),
    ("operations/retry.rs", "how long work waits for a gateway or a database that is away"),
    ("operations/result.rs", "how results are cut, pure"),
    ("operations/right.rs", "the right of work to continue, and the credential that began it"),
    ("operations/run.rs", "what the work of one can do"),
    ("operations/sight.rs", "the right of a caller to see one while it waits for it"),
    ("operations/state.rs", "the state machine, pure"),
    ("operations/takeover.rs", "a worker of its own: what replicas left behind"),
    ("sessions/budget", "tables of their own, and the rules of failed logins"),
    ("sessions/live.rs", "sessions from which others are derived, checked in their transaction"),
    ("write_intents/messages.rs", "the translation for the services whose calls name writes"),
    ("webhooks/channels", "messages in the form of each channel, without a database"),
    ("webhooks/connections", "the limit on all connections, and the share of each webhook"),
    ("webhooks/deliveries", "a table of its own: messages, their lists, and sending them again"),
    (
        "webhooks/delivery",
        "sends messages: the task of a webhook, its connections, signatures and schedule",
    ),
    ("webhooks/disabling", "the end of a webhook whose receiver does not accept messages"),
    ("webhooks/email_settings.rs", "settings of mail servers, parsed"),
    ("webhooks/fanout.rs", "from events to messages, in the transaction that moves the position"),
    ("webhooks/input.rs", "what a caller may say of a webhook, parsed"),
    ("webhooks/messages.rs", "the translation of a large service, beside its rpc.rs"),
    ("webhooks/outbound.rs", "the connections of webhooks, each checked"),
    ("webhooks/sealed.rs", "the secrets of webhooks at rest"),
    ("webhooks/subscriptions.rs", "which events a webhook subscribes to, pure"),
    ("webhooks/target_change.rs", "what a change of the destination drops, pure"),
    ("webhooks/views.rs", "webhooks as readers see them, also those that cannot be read"),
    ("users/changes.rs", "what an admin changes of users"),
    ("users/invite", "how people come to an account: a second writer of the same table"),
    ("users/admins.rs", "the rule of the last admin, which groups and logins keep too"),
    (
        "service_principals/from_config.rs",
        "those that the configuration makes, for rules of OIDC issuers",
    ),
];

/// Returns the names of the folders in `src/resources`, and whether each serves an API.
fn resources() -> Vec<(String, bool)> {
    let entries = fs::read_dir(root().join("src/resources")).unwrap().map(|entry| entry.unwrap());
    let mut found: Vec<(String, bool)> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), entry.path().join("rpc.rs").exists())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn every_file_has_limited_length_and_a_module_comment() {
    let mut faults = Faults::default();
    for file in rust_files(&["src", "crates", "build", "benches", "tests"]) {
        let limit = if file.path.starts_with("tests/") { TEST_LINES_MAX } else { SOURCE_LINES_MAX };
        let length = file.text.lines().count();
        if length > limit {
            let rule = format!("{length} lines, at most {limit}: split it by noun or verb");
            faults.add(&file.path, limit + 1, &rule);
        }
        if !file.text.starts_with("//!") {
            faults.add(
                &file.path,
                1,
                "start with `//!`: what it is for, and what always holds in it",
            );
        }
    }
    faults.assert_none();
}

#[test]
fn every_resource_has_the_same_files() {
    let mut faults = Faults::default();
    let mut extras: BTreeSet<&str> = RESOURCE_EXTRAS.iter().map(|(name, _)| *name).collect();
    for (resource, _) in resources() {
        for entry in fs::read_dir(root().join("src/resources").join(&resource)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let known = RESOURCE_FILES.contains(&name.as_str());
            if !known && !extras.remove(format!("{resource}/{name}").as_str()) {
                let path = format!("src/resources/{resource}/{name}");
                let rule = "a resource has mod, rpc, domain, store, tests and worker: say why it needs this in RESOURCE_EXTRAS";
                faults.add(&path, 1, rule);
            }
        }
    }
    for name in extras {
        faults.add(
            "tests/it/tidy/tree.rs",
            1,
            &format!("`{name}` does not exist: remove it from RESOURCE_EXTRAS"),
        );
    }
    faults.assert_none();
}

#[test]
fn every_service_has_a_proto_tests_and_a_line_in_the_architecture() {
    let mut faults = Faults::default();
    let map = read_file("ARCHITECTURE.md").text;
    let exists = |path: &str| root().join(path).exists();
    for (resource, serves) in resources() {
        let folder = format!("src/resources/{resource}/mod.rs");
        if !map.contains(&format!("`resources/{resource}/`")) {
            faults.add(
                &folder,
                1,
                &format!("give `resources/{resource}/` a line in ARCHITECTURE.md"),
            );
        }
        if !serves {
            continue;
        }
        let proto = format!("proto/shoreguard/v1/{resource}.proto");
        if !exists(&proto) {
            faults.add(
                &folder,
                1,
                &format!("declare the service in the proto of its name: {proto}"),
            );
        }
        let tests = format!("tests/it/{resource}.rs");
        if !exists(&tests) && !exists(&format!("tests/it/{resource}/mod.rs")) {
            faults.add(&folder, 1, &format!("test it through the front door in {tests}"));
        }
    }
    faults.assert_none();
}

#[test]
fn every_file_is_compiled() {
    let mut faults = Faults::default();
    let files = rust_files(&["src", "crates/proto/src", "crates/simulator/src", "tests/it"]);
    for file in &files {
        let path = Path::new(&file.path);
        let (name, mut folder) = (path.file_name().unwrap(), path.parent().unwrap());
        let mut stem = path.file_stem().unwrap();
        if ["main", "lib"].iter().any(|root| stem == *root) {
            continue;
        }
        if stem == "mod" {
            (stem, folder) = (folder.file_name().unwrap(), folder.parent().unwrap());
        }
        let line = format!("mod {};", stem.to_str().unwrap());
        let by_path = format!("#[path = {name:?}]");
        let named = files.iter().filter(|f| Path::new(&f.path).parent() == Some(folder)).any(|f| {
            let parent = ["mod.rs", "lib.rs", "main.rs"].iter().any(|p| f.path.ends_with(p));
            f.text.lines().any(|l| (parent && l.ends_with(&line)) || l == by_path)
        });
        if !named {
            faults.add(&file.path, 1, &format!("no `{line}` beside it: nothing compiles it"));
        }
    }
    faults.assert_none();
}

#[test]
fn file_names_are_specific_and_notes_name_an_issue() {
    let empty = ["util", "utils", "helper", "helpers", "common", "manager", "misc"];
    let mut faults = Faults::default();
    for file in read_files(&FOLDERS) {
        let name = Path::new(&file.path).file_stem().unwrap().to_str().unwrap();
        let in_folder = file.path.split('/').any(|part| empty.contains(&part));
        if file.is_rust() && (empty.contains(&name) || in_folder) {
            faults.add(&file.path, 1, "name it after what it is about");
        }
        for (line, text) in file.lines() {
            let note = ["TODO", "FIXME", "XXX"].iter().any(|note| contains_word(text, note));
            if note && !contains_word(text, "TODO(#") && file.path != "tests/it/tidy/tree.rs" {
                faults.add(
                    &file.path,
                    line,
                    "a note names its issue, `TODO(#123): ...`, or is done now",
                );
            }
        }
    }
    faults.assert_none();
}
