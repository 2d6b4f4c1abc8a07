-- Locks on the policy of one sandbox. A pin outlives its sandbox. pinned_version is 0, and pinned_hash and sandbox_id
-- are null, until the gateway has reported them. principal is null for imported pins.
CREATE TABLE policy_pins (
    id INTEGER NOT NULL CONSTRAINT policy_pins_pk PRIMARY KEY AUTOINCREMENT,
    gateway_name TEXT NOT NULL
        CONSTRAINT policy_pins_gateway_name_fk REFERENCES gateways (name) ON DELETE CASCADE,
    workspace TEXT NOT NULL DEFAULT 'default'
        CONSTRAINT policy_pins_workspace_length CHECK (length(workspace) BETWEEN 1 AND 253),
    sandbox_name TEXT NOT NULL
        CONSTRAINT policy_pins_sandbox_name_length CHECK (length(sandbox_name) BETWEEN 1 AND 253),
    pinned_version BIGINT NOT NULL CONSTRAINT policy_pins_pinned_version_range CHECK (pinned_version >= 0),
    pinned_by TEXT NOT NULL CONSTRAINT policy_pins_pinned_by_length CHECK (length(pinned_by) <= 254),
    reason TEXT CONSTRAINT policy_pins_reason_length CHECK (length(reason) <= 1000),
    pinned_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP,
    principal TEXT CONSTRAINT policy_pins_principal_length CHECK (length(principal) BETWEEN 1 AND 300),
    setter_role TEXT NOT NULL
        CONSTRAINT policy_pins_setter_role_known CHECK (setter_role IN ('none', 'viewer', 'operator', 'admin')),
    sandbox_id TEXT CONSTRAINT policy_pins_sandbox_id_length CHECK (length(sandbox_id) BETWEEN 1 AND 1024),
    pinned_hash TEXT CONSTRAINT policy_pins_pinned_hash_length CHECK (length(pinned_hash) BETWEEN 1 AND 1024),
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT policy_pins_gateway_name_workspace_sandbox_name_unique UNIQUE (gateway_name, workspace, sandbox_name)
);

-- For the deletion of expired pins.
CREATE INDEX policy_pins_expires_at ON policy_pins (expires_at) WHERE expires_at IS NOT NULL;
