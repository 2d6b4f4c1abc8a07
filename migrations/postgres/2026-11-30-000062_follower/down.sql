ALTER TABLE approval_workflows DROP COLUMN auto_since;
ALTER TABLE policy_pins DROP COLUMN drift_since;
ALTER TABLE policy_pins DROP COLUMN drift_hash;
ALTER TABLE policy_pins DROP COLUMN drift_version;
