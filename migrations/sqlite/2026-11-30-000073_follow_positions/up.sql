-- Gateways whose sandboxes were compared once. The sandboxes that existed by then caused no event.
CREATE TABLE followed_gateways (
    gateway_id BIGINT NOT NULL
        CONSTRAINT followed_gateways_pk PRIMARY KEY
        CONSTRAINT followed_gateways_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    since TIMESTAMP NOT NULL
);

-- What was last reported of a sandbox. log_time is the time of its newest log line that was read; null before the first
-- read of a sandbox that existed before its gateway was followed. log_gaps counts reads that have missed lines,
-- bypass_dropped bypass events that are not stored.
CREATE TABLE follow_positions (
    gateway_id BIGINT NOT NULL
        CONSTRAINT follow_positions_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    workspace TEXT NOT NULL CONSTRAINT follow_positions_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL CONSTRAINT follow_positions_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    sandbox_uid TEXT NOT NULL CONSTRAINT follow_positions_sandbox_uid_length CHECK (length(sandbox_uid) BETWEEN 1 AND 128),
    phase TEXT NOT NULL
        CONSTRAINT follow_positions_phase_known CHECK (phase IN ('unspecified', 'provisioning', 'ready', 'error', 'deleting', 'unknown', 'stopping', 'stopped', 'starting', 'completed')),
    log_time TIMESTAMP,
    log_gaps BIGINT NOT NULL DEFAULT 0 CONSTRAINT follow_positions_log_gaps_range CHECK (log_gaps >= 0),
    bypass_dropped BIGINT NOT NULL DEFAULT 0 CONSTRAINT follow_positions_bypass_dropped_range CHECK (bypass_dropped >= 0),
    CONSTRAINT follow_positions_pk PRIMARY KEY (gateway_id, workspace, sandbox_name)
);
