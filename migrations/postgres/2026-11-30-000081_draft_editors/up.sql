-- Who has edited a proposed rule without a round. Its later rounds have them as authors.
CREATE TABLE draft_editors (
    gateway_id BIGINT NOT NULL
        CONSTRAINT draft_editors_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    workspace TEXT NOT NULL CONSTRAINT draft_editors_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL CONSTRAINT draft_editors_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    chunk_id TEXT NOT NULL CONSTRAINT draft_editors_chunk_id_length CHECK (length(chunk_id) BETWEEN 1 AND 128),
    principal TEXT NOT NULL CONSTRAINT draft_editors_principal_length CHECK (length(principal) BETWEEN 1 AND 64),
    edited_at TIMESTAMP NOT NULL,
    CONSTRAINT draft_editors_pk PRIMARY KEY (gateway_id, workspace, sandbox_name, chunk_id, principal)
);

CREATE INDEX draft_editors_edited_at ON draft_editors (edited_at);
