//! Conversion between the messages of `ApprovalService` and the content of drafts.

use super::content::{DraftContent, DraftFacts, NAME_CHARACTERS_MAX, UndoContent};
use crate::clock::Timestamp;
use crate::pb::v1 as pb;
use crate::policy::Policy;
use crate::resources::approvals::inbox::waiting::WaitingDrafts;
use crate::rpc::wire;
use crate::upstream::errors::sanitize;

/// Returns rules as YAML; empty if the policy has no rule.
fn yaml(rules: &Policy) -> String {
    if rules.has_rules() { rules.to_yaml() } else { String::new() }
}

impl From<&DraftContent> for pb::ApprovalContent {
    fn from(content: &DraftContent) -> Self {
        Self {
            yaml: yaml(&content.result),
            marks: content.result.marks(),
            rule_name: sanitize(&content.rule_name, NAME_CHARACTERS_MAX),
            proposed_yaml: yaml(&content.proposed),
            gateway_findings: content.findings.clone(),
            ..Self::default()
        }
    }
}

impl From<&UndoContent> for pb::ApprovalContent {
    fn from(content: &UndoContent) -> Self {
        Self {
            yaml: yaml(&content.after),
            marks: content.after.marks(),
            rule_name: sanitize(&content.rule_name, NAME_CHARACTERS_MAX),
            present_yaml: yaml(&content.before),
            ..Self::default()
        }
    }
}

impl From<DraftFacts> for pb::ApprovalDraft {
    fn from(facts: DraftFacts) -> Self {
        let time =
            |micros: Option<i64>| micros.map(Timestamp::from_unix_micros).map(wire::to_timestamp);
        Self {
            rule_name: facts.rule_name,
            rationale: facts.rationale,
            stage: facts.stage,
            binary: facts.binary,
            hits: facts.hits,
            first_seen_time: time(facts.first_seen),
            last_seen_time: time(facts.last_seen),
            replaced_characters: facts.quoting.replaced,
            truncated: facts.quoting.is_cut,
        }
    }
}

impl From<WaitingDrafts> for pb::WaitingDrafts {
    fn from(waiting: WaitingDrafts) -> Self {
        let WaitingDrafts { gateway, state } = waiting;
        Self {
            gateway: gateway.to_string(),
            workspace: state.workspace,
            sandbox: state.sandbox_name,
            over_limit: u32::try_from(state.waiting).unwrap_or_default(),
            unreadable: u32::try_from(state.unreadable).unwrap_or_default(),
            overflowing: state.overflowing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openshell::drafts::DraftChunk;
    use crate::resources::approvals::drafts::samples::chunk;
    use crate::upstream::generation::Generation;

    #[test]
    fn t20_the_name_of_a_rule_has_no_characters_that_readers_do_not_see() {
        let rule_name = "a\u{202e}b".to_owned();
        let asked = DraftChunk { rule_name, ..chunk("c", "a.example") };
        let empty = Policy::decode(Generation::V0_1, &[]).unwrap();
        let shown = pb::ApprovalContent::from(&DraftContent::of(&empty, &asked).unwrap());
        assert_eq!(shown.rule_name, "a b");
        let yaml = shown.yaml;
        assert!(yaml.contains("\\u202e") && !yaml.contains('\u{202e}'), "{yaml}");
    }
}
