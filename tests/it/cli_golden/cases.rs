//! Arguments of each command of the table, in the order in which they run. `{f}` is the letter of the form.

/// A command and its arguments.
pub(super) struct Case {
    /// Noun and verb.
    pub(super) command: &'static str,
    /// Arguments with which it succeeds, or `#` and the reason why no run can.
    pub(super) good: &'static str,
    /// Arguments with which it is refused: they name something that does not exist, or a secret that is wrong. `-` if it
    /// is never refused.
    pub(super) refused: &'static str,
}

impl Case {
    pub(super) fn noun(&self) -> &'static str {
        self.command.split(' ').next().unwrap()
    }

    /// Returns why the command does not succeed on the stage of all cases.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.good.strip_prefix('#')
    }

    /// Returns arguments that are complete.
    pub(super) fn any(&self) -> &'static str {
        match (self.reason(), self.refused) {
            (None, _) => self.good,
            (Some(_), "-") => "",
            (Some(_), refused) => refused,
        }
    }
}

const fn case(command: &'static str, good: &'static str, refused: &'static str) -> Case {
    Case { command, good, refused }
}

/// Values by the command whose answer has them as its name.
pub(super) const VALUES: [(&str, &str); 2] = [
    ("hook", "boot-hook create edge/coder warm-up --phase post-create --command true -o name"),
    ("operation", "sandbox run edge/coder -o name -- true"),
];

/// Instead of arguments: a scene shows the success, since the stage of all cases does not have what it needs.
pub(super) const IN_A_SCENE: &str = "# a scene shows it";

pub(super) const CASES: &[Case] = &[
    case("server info", "", "-"),
    case("server setup", IN_A_SCENE, "ana@example.com --setup-token - --password -"),
    case("gateway list", "", "-"),
    case("gateway get", "edge", "nowhere"),
    case("gateway register", "new-{f} 127.0.0.1:1 --scheme http --label env=test", "-"),
    case("gateway update", "new-{f} --description changed", "nowhere --description changed"),
    case("gateway test", "edge", "nowhere"),
    case("gateway health", "edge", "nowhere"),
    case("gateway rotate-credentials", IN_A_SCENE, "nowhere --bearer-token -"),
    case("gateway watch", IN_A_SCENE, "-"),
    case("gateway discover", IN_A_SCENE, "-"),
    case("gateway discovery", "", "-"),
    case("gateway settings", "edge", "nowhere"),
    case("gateway set", "edge ocsf_json_enabled --switch", "nowhere ocsf_json_enabled --switch"),
    case("gateway unset", "edge ocsf_json_enabled", "nowhere ocsf_json_enabled"),
    case("gateway unregister", "new-{f}", "nowhere"),
    case("operation list", "", "-"),
    case("operation get", "{operation}", "00000000-0000-4000-8000-000000000000"),
    case("operation watch", "{operation}", "00000000-0000-4000-8000-000000000000"),
    case("operation cancel", IN_A_SCENE, "00000000-0000-4000-8000-000000000000"),
    case("event list", "--names gateway.finding_opened", "-"),
    case("event types", "", "-"),
    case("audit list", "--actor absent@example.com", "-"),
    case("webhook list", "", "-"),
    case("webhook get", IN_A_SCENE, "999"),
    case("webhook create", IN_A_SCENE, "--url - --channel generic"),
    case("webhook update", IN_A_SCENE, "999 --description changed"),
    case("webhook test", IN_A_SCENE, "999"),
    case("webhook rotate-secret", IN_A_SCENE, "999"),
    case("webhook delete", IN_A_SCENE, "999"),
    case("webhook deliveries", IN_A_SCENE, "999"),
    case("webhook redeliver", IN_A_SCENE, "999 --delivery-ids 1"),
    case("sandbox list", "", "--gateway nowhere"),
    case("sandbox get", "edge/coder", "edge/none"),
    case("sandbox create", "edge/new-{f} --validate-only", "nowhere/new"),
    case("sandbox update", "edge/builder --label env=test", "edge/none --description changed"),
    case("sandbox start", "edge/builder", "edge/none"),
    case("sandbox stop", "edge/builder", "edge/none"),
    case("sandbox run", IN_A_SCENE, "nowhere/coder -- true"),
    case("sandbox logs", "edge/coder --lines 1", "edge/none"),
    case("sandbox watch", IN_A_SCENE, "edge/none"),
    case("sandbox ssh", "edge/coder", "edge/none"),
    case("sandbox revoke-ssh", IN_A_SCENE, "nowhere/coder --token -"),
    case("sandbox bypass-events", "edge/builder", "edge/none"),
    case("sandbox templates", "edge", "nowhere"),
    case("sandbox delete", "edge/broken --validate-only", "edge/none"),
    case("sbom get", IN_A_SCENE, "edge/coder"),
    case("sbom components", IN_A_SCENE, "edge/coder"),
    case("sbom vulnerabilities", IN_A_SCENE, "edge/coder"),
    case("sbom download", IN_A_SCENE, "edge/coder"),
    case("sbom delete", IN_A_SCENE, "edge/coder"),
    case("sbom search", "--name openssl", "--name openssl --gateway nowhere"),
    case("sbom diff", IN_A_SCENE, "edge/coder edge/builder"),
    case("boot-hook list", "edge/coder", "nowhere/coder"),
    case("boot-hook get", "edge/coder {hook}", "edge/coder 999"),
    case(
        "boot-hook create",
        "edge/coder new-{f} --phase post-create --command true",
        "nowhere/a b --phase post-create --command true",
    ),
    case("boot-hook update", "edge/coder {hook} --command false", "edge/coder 999 --command true"),
    case("boot-hook reorder", IN_A_SCENE, "nowhere/coder 1 --phase post-create"),
    case("boot-hook run", IN_A_SCENE, "edge/coder 999"),
    case("boot-hook delete", IN_A_SCENE, "edge/coder 999"),
    case("policy get", "edge/coder", "edge/none"),
    case("policy revisions", "edge/coder", "edge/none"),
    case(
        "policy edit",
        IN_A_SCENE,
        "nowhere/none --policy-edits {\"remove_rule\":{\"rule_name\":\"x\"}}",
    ),
    case("policy apply-preset", "edge/coder npm --validate-only", "edge/none npm --validate-only"),
    case("policy revert", "edge/coder 1 --validate-only", "edge/none 1 --validate-only"),
    case("policy presets", "", "-"),
    case("policy preset", "npm", "none"),
    case("pin list", "", "--gateway nowhere"),
    case("pin set", "edge/coder --reason test-{f}", "nowhere/none --reason test"),
    case("pin get", "edge/coder", "edge/none"),
    case("pin remove", "edge/coder", "edge/none"),
    case("approval list", "", "--gateway nowhere"),
    case("approval get", IN_A_SCENE, "999"),
    case("approval decisions", IN_A_SCENE, "999"),
    case("approval history", "edge/coder", "nowhere/coder"),
    case("approval watch", IN_A_SCENE, "--gateway nowhere"),
    case("approval approve", IN_A_SCENE, "999 --digest d"),
    case("approval reject", IN_A_SCENE, "999 --digest d --comment no"),
    case("approval retract", IN_A_SCENE, "999"),
    case(
        "approval vote-many",
        IN_A_SCENE,
        "nowhere --ballots {\"approval_id\":999,\"digest\":\"d\",\"decision\":\"VOTE_DECISION_APPROVE\"}",
    ),
    case("approval withdraw", IN_A_SCENE, "999"),
    case("approval edit", IN_A_SCENE, "999 --rule -"),
    case("approval undo", IN_A_SCENE, "nowhere/coder chunk"),
    case("approval clear", IN_A_SCENE, "nowhere/coder"),
    case("workflow list", "", "--gateway nowhere"),
    case(
        "workflow set",
        IN_A_SCENE,
        "nowhere --rule {\"groups\":[{\"name\":\"a\",\"required\":1}],\"required_groups\":1}",
    ),
    case("workflow get", IN_A_SCENE, "edge/none"),
    case("workflow explain", IN_A_SCENE, "nowhere/coder"),
    case("workflow delete", "# a review decides about it", "edge/none"),
    case("user list", "", "-"),
    case("user get", "bob-{f}@example.com", "none@example.com"),
    case("user invite", "eve-{f}@example.com --role viewer", "-"),
    case("user resend-invite", "eve-{f}@example.com", "none@example.com"),
    case("user update", "bob-{f}@example.com --role operator", "none@example.com --role operator"),
    case("user unlock", "bob-{f}@example.com", "none@example.com"),
    case("user sessions", "bob-{f}@example.com", "none@example.com"),
    case("user revoke-sessions", "bob-{f}@example.com", "none@example.com"),
    case("user reset-password", "bob-{f}@example.com", "none@example.com"),
    case("user delete", "bob-{f}@example.com", "none@example.com"),
    case("group list", "", "-"),
    case("group create", "ops-{f} --role viewer", "-"),
    case("group get", "ops-{f}", "none"),
    case("group update", "ops-{f} --description changed", "none --description changed"),
    case("group add", "ops-{f} bob-{f}@example.com", "none bob-t@example.com"),
    case("group members", "ops-{f}", "none"),
    case("group remove", "ops-{f} bob-{f}@example.com", "none bob-t@example.com"),
    case("group delete", "ops-{f}", "none"),
    case("service-principal list", "", "-"),
    case("service-principal create", "new-{f} --role viewer", "-"),
    case("service-principal get", "ci-{f}", "none"),
    case("service-principal update", "ci-{f} --role operator", "none --role operator"),
    case("service-principal rotate", "ci-{f}", "none"),
    case("service-principal delete", "ci-{f}", "none"),
    case("role list", "", "--gateway nowhere"),
    case(
        "role set",
        "sp:ci-{f} --gateway edge --role operator",
        "sp:none --gateway edge --role operator",
    ),
    case("role who", "edge", "nowhere"),
    case("role explain", "sp:ci-{f} --gateway edge", "sp:none --gateway edge"),
    case("role remove", "sp:ci-{f} --gateway edge", "sp:none --gateway edge"),
    case("session list", IN_A_SCENE, ""),
    case("session revoke", IN_A_SCENE, "999"),
    case("session change-password", IN_A_SCENE, "--current-password - --new-password -"),
    case("session accept-invite", IN_A_SCENE, "--invite-token - --password -"),
    case("session register", IN_A_SCENE, "ana@example.com --password -"),
    case("session providers", "", "-"),
    case("session exchange", IN_A_SCENE, "corp --token -"),
    case("session link-oidc", IN_A_SCENE, "--login-token - --code - --state s"),
    case("session unlink-oidc", IN_A_SCENE, ""),
    case("session approve-device", IN_A_SCENE, "--user-code - --decision deny"),
];
