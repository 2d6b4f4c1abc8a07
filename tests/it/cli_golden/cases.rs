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

    /// Returns why the command does not succeed in a test.
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

const NO_END: &str = "# it does not end";
const NO_REVIEW: &str = "# needs a review, which the tests of approvals make";
const NO_SECRET: &str = "# needs a secret that only another program gives";
const NO_RECEIVER: &str = "# needs a receiver, which the tests of webhooks have";

pub(super) const CASES: &[Case] = &[
    case("server info", "", "-"),
    case(
        "server setup",
        "# the server has an admin",
        "ana@example.com --setup-token - --password -",
    ),
    case("gateway list", "", "-"),
    case("gateway get", "edge", "nowhere"),
    case("gateway register", "new-{f} 127.0.0.1:1 --scheme http --label env=test", "-"),
    case("gateway update", "new-{f} --description changed", "nowhere --description changed"),
    case("gateway test", "edge", "nowhere"),
    case("gateway health", "edge", "nowhere"),
    case("gateway rotate-credentials", NO_SECRET, "nowhere --bearer-token -"),
    case("gateway watch", NO_END, "-"),
    case("gateway discover", "# no domains are configured", "-"),
    case("gateway discovery", "", "-"),
    case("gateway settings", "edge", "nowhere"),
    case("gateway set", "edge ocsf_json_enabled --switch", "nowhere ocsf_json_enabled --switch"),
    case("gateway unset", "edge ocsf_json_enabled", "nowhere ocsf_json_enabled"),
    case("gateway unregister", "new-{f}", "nowhere"),
    case("operation list", "", "-"),
    case("operation get", "{operation}", "00000000-0000-4000-8000-000000000000"),
    case("operation watch", "{operation}", "00000000-0000-4000-8000-000000000000"),
    case("operation cancel", "# it has ended", "00000000-0000-4000-8000-000000000000"),
    case("event list", "--names gateway.finding_opened", "-"),
    case("event types", "", "-"),
    case("audit list", "--actor absent@example.com", "-"),
    case("webhook list", "", "-"),
    case("webhook get", NO_RECEIVER, "999"),
    case("webhook create", NO_RECEIVER, "--url - --channel generic"),
    case("webhook update", NO_RECEIVER, "999 --description changed"),
    case("webhook test", NO_RECEIVER, "999"),
    case("webhook rotate-secret", NO_RECEIVER, "999"),
    case("webhook delete", NO_RECEIVER, "999"),
    case("webhook deliveries", NO_RECEIVER, "999"),
    case("webhook redeliver", NO_RECEIVER, "999 --delivery-ids 1"),
    case("sandbox list", "", "--gateway nowhere"),
    case("sandbox get", "edge/coder", "edge/none"),
    case("sandbox create", "edge/new-{f} --validate-only", "nowhere/new"),
    case("sandbox update", "edge/builder --label env=test", "edge/none --description changed"),
    case("sandbox start", "edge/builder", "edge/none"),
    case("sandbox stop", "edge/builder", "edge/none"),
    case("sandbox run", "# its answer depends on time", "nowhere/coder -- true"),
    case("sandbox logs", "edge/coder --lines 1", "edge/none"),
    case("sandbox watch", NO_END, "edge/none"),
    case("sandbox ssh", "edge/coder", "edge/none"),
    case("sandbox revoke-ssh", NO_SECRET, "nowhere/coder --token -"),
    case("sandbox bypass-events", "edge/builder", "edge/none"),
    case("sandbox templates", "edge", "nowhere"),
    case("sandbox delete", "edge/broken --validate-only", "edge/none"),
    case("sbom get", "# no SBOM is stored", "edge/coder"),
    case("sbom components", "# no SBOM is stored", "edge/coder"),
    case("sbom vulnerabilities", "# no SBOM is stored", "edge/coder"),
    case("sbom download", "# no SBOM is stored", "edge/coder"),
    case("sbom delete", "# no SBOM is stored", "edge/coder"),
    case("sbom search", "--name openssl", "--name openssl --gateway nowhere"),
    case("sbom diff", "# no SBOM is stored", "edge/coder edge/builder"),
    case("boot-hook list", "edge/coder", "nowhere/coder"),
    case("boot-hook get", "edge/coder {hook}", "edge/coder 999"),
    case(
        "boot-hook create",
        "edge/coder new-{f} --phase post-create --command true",
        "nowhere/a b --phase post-create --command true",
    ),
    case("boot-hook update", "edge/coder {hook} --command false", "edge/coder 999 --command true"),
    case(
        "boot-hook reorder",
        "# the hooks of the other form are missing",
        "nowhere/coder 1 --phase post-create",
    ),
    case("boot-hook run", "# its answer depends on the gateway", "edge/coder 999"),
    case("boot-hook delete", "# another form needs it", "edge/coder 999"),
    case("policy get", "edge/coder", "edge/none"),
    case("policy revisions", "edge/coder", "edge/none"),
    case(
        "policy edit",
        "# its answer depends on time",
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
    case("approval get", NO_REVIEW, "999"),
    case("approval decisions", NO_REVIEW, "999"),
    case("approval history", "edge/coder", "nowhere/coder"),
    case("approval watch", NO_END, "--gateway nowhere"),
    case("approval approve", NO_REVIEW, "999 --digest d"),
    case("approval reject", NO_REVIEW, "999 --digest d --comment no"),
    case("approval retract", NO_REVIEW, "999"),
    case(
        "approval vote-many",
        NO_REVIEW,
        "nowhere --ballots {\"approval_id\":999,\"digest\":\"d\",\"decision\":\"VOTE_DECISION_APPROVE\"}",
    ),
    case("approval withdraw", NO_REVIEW, "999"),
    case("approval edit", NO_REVIEW, "999 --rule -"),
    case("approval undo", NO_REVIEW, "nowhere/coder chunk"),
    case("approval clear", "# it would change what other cases see", "nowhere/coder"),
    case("workflow list", "", "--gateway nowhere"),
    case(
        "workflow set",
        "# a rule needs voters",
        "nowhere --rule {\"groups\":[{\"name\":\"a\",\"required\":1}],\"required_groups\":1}",
    ),
    case("workflow get", "# no rule is stored", "edge/none"),
    case("workflow explain", "# no rule is stored", "nowhere/coder"),
    case("workflow delete", "# no rule is stored", "edge/none"),
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
    case("session list", "# it is for people", ""),
    case("session revoke", "# a key has no sessions", "999"),
    case("session change-password", NO_SECRET, "--current-password - --new-password -"),
    case("session accept-invite", NO_SECRET, "--invite-token - --password -"),
    case("session register", "# registration is off", "ana@example.com --password -"),
    case("session providers", "", "-"),
    case("session exchange", NO_SECRET, "corp --token -"),
    case("session link-oidc", NO_SECRET, "--login-token - --code - --state s"),
    case("session unlink-oidc", "# a key has no account", ""),
    case("session approve-device", NO_SECRET, "--user-code - --decision deny"),
];
