//! Audit actions: `<resource_type>.<verb>`, with one dot and a verb of a closed list. The actions of RPCs come from
//! their options; those of jobs, the command line and the audit log itself are listed here.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// All verbs. Listing them here reveals two names for the same action.
const VERBS: &[&str] = &[
    "accept_invite",
    "add",
    "apply",
    "apply_preset",
    "approve",
    "attach",
    "back_up",
    "begin_login",
    "call",
    "cancel",
    "change_password",
    "clean_up",
    "clear",
    "configure",
    "create",
    "delete",
    "detach",
    "detect_drift",
    "diff",
    "disable",
    "discover",
    "download",
    "edit",
    "exchange",
    "exec",
    "exec_interactive",
    "expire",
    "explain",
    "export",
    "expose",
    "forward",
    "get",
    "get_discovery",
    "get_health",
    "get_history",
    "get_logs",
    "get_status",
    "import",
    "invite",
    "issue",
    "link_oidc",
    "lint",
    "list",
    "login",
    "logout",
    "pin",
    "redeliver",
    "refresh",
    "refuse",
    "register",
    "remove",
    "reorder",
    "resend_invite",
    "reset_password",
    "restore",
    "revert",
    "revoke",
    "revoke_sessions",
    "rotate",
    "rotate_credential",
    "rotate_credentials",
    "rotate_secret",
    "run",
    "search",
    "set",
    "setup",
    "stage_rootfs",
    "start",
    "stop",
    "test",
    "undo",
    "unlink_oidc",
    "unlock",
    "unpin",
    "unregister",
    "update",
    "update_metadata",
    "upload",
    "vote",
    "vote_many",
    "wait",
    "watch",
    "withdraw",
];

/// Actions that no RPC option defines: counted refusals (`auth.refuse`), unknown gateway methods (`gateway.call`),
/// jobs, the token service and the command line.
const OTHERS: &[(&str, &str)] = &[
    ("approval", "apply"),
    ("approval", "expire"),
    ("auth", "refuse"),
    ("database", "back_up"),
    ("database", "restore"),
    ("gateway", "call"),
    ("gateway_token", "issue"),
    ("policy", "detect_drift"),
    ("policy_pin", "expire"),
    ("sandbox", "clean_up"),
    ("user", "create"),
    ("webhook", "disable"),
];

/// The set of used actions.
#[derive(Default)]
pub(crate) struct Actions(BTreeSet<(String, String)>);

impl Actions {
    /// Adds the action of an RPC. Returns the path of its constant.
    pub(crate) fn add(&mut self, path: &str, resource_type: &str, verb: &str) -> String {
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        assert!(is_word(resource_type), "{path}: `resource_type` is a noun in snake case");
        assert!(VERBS.contains(&verb), "{path}: `{verb}` is not in the list of verbs");
        self.0.insert((resource_type.to_owned(), verb.to_owned()));
        format!("Action::{}", constant_name(resource_type, verb))
    }

    /// Writes the constants of `Action`, sorted by name.
    pub(crate) fn write(mut self, file: &Path) {
        for (resource_type, verb) in OTHERS {
            self.add("OTHERS", resource_type, verb);
        }
        let unused: Vec<_> =
            VERBS.iter().filter(|verb| !self.0.iter().any(|(_, used)| used == *verb)).collect();
        assert!(unused.is_empty(), "verbs without an action: {unused:?}");
        let (mut constants, mut all) = (String::new(), String::new());
        for (resource_type, verb) in &self.0 {
            let (name, constant) =
                (format!("{resource_type}.{verb}"), constant_name(resource_type, verb));
            writeln!(
                constants,
                "/// `{name}`.\npub const {constant}: Self = Self {{ resource_type: {resource_type:?}, name: {name:?} }};"
            )
            .expect("a string takes all");
            write!(all, "Self::{constant}, ").expect("a string takes all");
        }
        let code = format!(
            "impl Action {{\n{constants}\n/// Every action, sorted by name.\npub const ALL: &[Self] = &[{all}];\n}}\n"
        );
        std::fs::write(file, code).expect("OUT_DIR is writable");
    }
}

fn constant_name(resource_type: &str, verb: &str) -> String {
    format!("{resource_type}_{verb}").to_uppercase()
}
