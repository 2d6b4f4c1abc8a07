-- Operations write approved policies.
ALTER TABLE operations DROP CONSTRAINT operations_resource_type_known;

ALTER TABLE operations ADD CONSTRAINT operations_resource_type_known
    CHECK (resource_type IN ('sandbox', 'exec', 'policy'));

-- For the rounds that must be written or are not loaded yet.
CREATE INDEX approval_rounds_apply ON approval_rounds (id) WHERE state IN ('approved', 'sending', 'written');
