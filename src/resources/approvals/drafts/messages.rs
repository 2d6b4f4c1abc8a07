//! Conversion between the messages of `ApprovalService` and the content of drafts.

use super::content::{DraftContent, DraftFacts, UndoContent};
use crate::clock::Timestamp;
use crate::pb::v1 as pb;
use crate::policy::Policy;
use crate::resources::approvals::inbox::waiting::WaitingDrafts;
use crate::rpc::wire;

/// Returns rules as YAML; empty if the policy has no rule.
fn yaml(rules: &Policy) -> String {
    if rules.has_rules() { rules.to_yaml() } else { String::new() }
}

impl From<&DraftContent> for pb::ApprovalContent {
    fn from(content: &DraftContent) -> Self {
        Self {
            yaml: yaml(&content.result),
            marks: content.result.marks(),
            rule_name: content.rule_name.clone(),
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
            rule_name: content.rule_name.clone(),
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
