-- Rejections of proposed rules that their gateway does not know yet. A row is deleted when the gateway knows it.
-- gateway_id is not a foreign key: neither is that of a round.
CREATE TABLE draft_rejections (
    round_id BIGINT NOT NULL CONSTRAINT draft_rejections_pk PRIMARY KEY,
    gateway_id BIGINT NOT NULL,
    workspace TEXT NOT NULL CONSTRAINT draft_rejections_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL CONSTRAINT draft_rejections_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    sandbox_id TEXT CONSTRAINT draft_rejections_sandbox_id_length CHECK (length(sandbox_id) BETWEEN 1 AND 1024),
    chunk_id TEXT NOT NULL CONSTRAINT draft_rejections_chunk_id_length CHECK (length(chunk_id) BETWEEN 1 AND 128),
    reason TEXT NOT NULL CONSTRAINT draft_rejections_reason_length CHECK (length(reason) <= 1000)
);

CREATE INDEX draft_rejections_place_chunk_id
    ON draft_rejections (gateway_id, workspace, sandbox_name, chunk_id);

-- What was last seen of the proposed rules of a sandbox. waiting is the number of those without a round.
CREATE TABLE draft_states (
    gateway_id BIGINT NOT NULL
        CONSTRAINT draft_states_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    workspace TEXT NOT NULL CONSTRAINT draft_states_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL CONSTRAINT draft_states_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    waiting INTEGER NOT NULL DEFAULT 0 CONSTRAINT draft_states_waiting_range CHECK (waiting >= 0),
    unreadable INTEGER NOT NULL DEFAULT 0 CONSTRAINT draft_states_unreadable_range CHECK (unreadable >= 0),
    overflowing BOOLEAN NOT NULL DEFAULT FALSE,
    announced_at TIMESTAMP,
    updated_at TIMESTAMP NOT NULL,
    CONSTRAINT draft_states_pk PRIMARY KEY (gateway_id, workspace, sandbox_name)
);
