-- For the last rejection of the same content in the same place. Anyone who can read a review makes this query, and a
-- sandbox can have very many rounds that have ended, also of one content.
CREATE INDEX approval_rounds_place_digest
    ON approval_rounds (gateway_id, workspace, sandbox_name, digest, state, opened_at) WHERE closed_at IS NOT NULL;
