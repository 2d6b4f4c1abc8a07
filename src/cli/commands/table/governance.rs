//! Commands about policies, pins, approvals and approval workflows.

use super::{Row, row};

const APPROVAL: &str = "id gateway workspace sandbox action draft.rule_name=ASKS added=+ removed=- \
                        state votes needed expire_time=EXPIRES awaits_caller=YOU \
                        | authors owner digest comment create_time close_reason operation";
const WORKFLOW: &str = "gateway workspace sandbox rule.required_groups=NEEDS created_by update_time~=CHANGED \
                        | id rule broken_time";
const PIN: &str = "gateway workspace sandbox pinned_version=VERSION pinned_by reason expire_time=UNTIL \
                   | pin_time setter_role pinned_hash held";

pub(super) const ROWS: &[Row] = &[
    row("PolicyService/GetPolicy", "policy get").takes("PLACE"),
    row("PolicyService/ListPolicyRevisions", "policy revisions")
        .takes("PLACE")
        .columns("version status create_time~=AGE load_error=NOTE | policy_hash load_time provenance"),
    row("PolicyService/EditPolicy", "policy edit").takes("PLACE"),
    row("PolicyService/ApplyPolicyPreset", "policy apply-preset").takes("PLACE policy_preset"),
    row("PolicyService/RevertPolicy", "policy revert")
        .takes("PLACE version")
        .asks("Replace the policy of sandbox `{sandbox}` on gateway `{gateway}` by its version {version}?"),
    row("PolicyService/ListPolicyPresets", "policy presets")
        .columns("name built_in description | wire_generations"),
    row("PolicyService/GetPolicyPreset", "policy preset").takes("policy_preset"),
    row("PolicyService/ListPolicyPins", "pin list").columns(PIN).name("gateway workspace sandbox"),
    row("PolicyService/GetPolicyPin", "pin get").takes("PLACE"),
    row("PolicyService/PinPolicy", "pin set").takes("PLACE"),
    row("PolicyService/UnpinPolicy", "pin remove")
        .takes("PLACE")
        .asks("Remove the pin of sandbox `{sandbox}` on gateway `{gateway}`?"),
    row("ApprovalService/ListApprovals", "approval list").flat("filter").columns(APPROVAL),
    row("ApprovalService/GetApproval", "approval get").takes("approval_id"),
    row("ApprovalService/ListApprovalDecisions", "approval decisions").takes("approval_id").columns(
        "voter decision role comment create_time=TIME | id principal digest clear_time",
    ),
    row("ApprovalService/GetApprovalHistory", "approval history").takes("PLACE").columns(APPROVAL),
    row("ApprovalService/WatchApprovals", "approval watch")
        .flat("filter")
        .columns(
            "cursor approval.id approval.gateway approval.sandbox approval.action approval.state \
             approval.votes approval.needed",
        )
        .name("approval.id"),
    row("ApprovalService/Vote", "approval approve")
        .about("Votes for a change; `shoreguard approval get` shows the digest")
        .takes("approval_id")
        .presets("decision=VOTE_DECISION_APPROVE")
        .requires("digest"),
    row("ApprovalService/Vote", "approval reject")
        .about("Votes against a change; `shoreguard approval get` shows the digest")
        .takes("approval_id")
        .presets("decision=VOTE_DECISION_REJECT")
        .requires("digest comment"),
    row("ApprovalService/Vote", "approval retract")
        .about("Takes back your own vote")
        .takes("approval_id")
        .presets("decision=VOTE_DECISION_WITHDRAW"),
    row("ApprovalService/VoteMany", "approval vote-many").takes("gateway").columns(APPROVAL),
    row("ApprovalService/WithdrawProposal", "approval withdraw")
        .takes("approval_id")
        .asks("End the proposal of approval {approval_id}?"),
    row("ApprovalService/EditChunk", "approval edit").takes("approval_id").documents("rule"),
    row("ApprovalService/UndoChunk", "approval undo")
        .takes("PLACE chunk_id")
        .asks("Undo chunk `{chunk_id}` of sandbox `{sandbox}` on gateway `{gateway}`?"),
    row("ApprovalService/ClearChunks", "approval clear")
        .takes("PLACE")
        .asks("Delete everything that the agent of sandbox `{sandbox}` on gateway `{gateway}` asks for?"),
    row("ApprovalWorkflowService/ListWorkflows", "workflow list")
        .columns(WORKFLOW)
        .name("gateway workspace sandbox"),
    row("ApprovalWorkflowService/GetWorkflow", "workflow get").takes("SCOPE"),
    row("ApprovalWorkflowService/SetWorkflow", "workflow set").takes("SCOPE").requires("rule"),
    row("ApprovalWorkflowService/DeleteWorkflow", "workflow delete")
        .takes("SCOPE")
        .asks("Delete this approval workflow of gateway `{gateway}`?"),
    row("ApprovalWorkflowService/ExplainWorkflow", "workflow explain").takes("PLACE").columns(
        "approval_workflow.gateway approval_workflow.workspace approval_workflow.sandbox \
         can_be_met=MET lacking_group=LACKS | groups excluded",
    ),
];
