DROP TABLE policy_apply_proposals;
DROP TABLE approval_decisions;
DROP TABLE approval_rounds;
DROP TABLE approval_workflows;
