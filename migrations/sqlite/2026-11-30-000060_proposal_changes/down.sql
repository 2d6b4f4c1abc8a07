ALTER TABLE policy_apply_proposals DROP COLUMN change_json;
