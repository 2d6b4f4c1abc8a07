-- The change that led to a proposed policy, as JSON: it is computed again if the policy of the sandbox has moved. Null
-- for a complete policy.
ALTER TABLE policy_apply_proposals ADD COLUMN change_json TEXT
    CONSTRAINT policy_apply_proposals_change_json_length CHECK (length(change_json) <= 2097152);
