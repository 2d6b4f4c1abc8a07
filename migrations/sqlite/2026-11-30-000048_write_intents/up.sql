-- Writes to gateways that have begun and whose outcome is not stored. An empty workspace means the whole gateway, an
-- empty sandbox_name the whole workspace. owner is the replica that sends the write. gateway_id is not a foreign key:
-- whether a write happened is still a question after its gateway is unregistered.
CREATE TABLE write_intents (
    id INTEGER NOT NULL CONSTRAINT write_intents_pk PRIMARY KEY AUTOINCREMENT,
    gateway_id BIGINT NOT NULL,
    workspace TEXT NOT NULL CONSTRAINT write_intents_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL CONSTRAINT write_intents_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    kind TEXT NOT NULL CONSTRAINT write_intents_kind_length CHECK (length(kind) BETWEEN 1 AND 64),
    round_id BIGINT,
    owner TEXT NOT NULL CONSTRAINT write_intents_owner_length CHECK (length(owner) BETWEEN 1 AND 100),
    principal TEXT CONSTRAINT write_intents_principal_length CHECK (length(principal) BETWEEN 1 AND 300),
    base_version BIGINT,
    want_digest TEXT CONSTRAINT write_intents_want_digest_length CHECK (length(want_digest) BETWEEN 64 AND 64),
    deadline TIMESTAMP NOT NULL,
    sent_at TIMESTAMP,
    audit_id BIGINT
);

-- One write of a round per sandbox.
CREATE UNIQUE INDEX write_intents_gateway_id_workspace_sandbox_name_unique
    ON write_intents (gateway_id, workspace, sandbox_name) WHERE round_id IS NOT NULL;
CREATE INDEX write_intents_gateway_id ON write_intents (gateway_id);
-- For the deletion of those whose deadline has passed.
CREATE INDEX write_intents_deadline ON write_intents (deadline);
