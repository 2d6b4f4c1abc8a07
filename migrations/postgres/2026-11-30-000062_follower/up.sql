-- The policy of a pinned sandbox that was reported last because it differs from the pinned one, and since when. Null if
-- it does not differ. drift_hash is the gateway's hash of the policy in force.
ALTER TABLE policy_pins ADD COLUMN drift_version BIGINT;
ALTER TABLE policy_pins ADD COLUMN drift_hash TEXT
    CONSTRAINT policy_pins_drift_hash_length CHECK (length(drift_hash) BETWEEN 1 AND 1024);
ALTER TABLE policy_pins ADD COLUMN drift_since TIMESTAMP;
-- Since when a gateway approves by itself what the workflow would review. Null if it does not.
ALTER TABLE approval_workflows ADD COLUMN auto_since TIMESTAMP;
