-- When bypass events of a sandbox and technique were last announced, and how many were stored since.
CREATE TABLE bypass_notices (
    id INTEGER NOT NULL CONSTRAINT bypass_notices_pk PRIMARY KEY AUTOINCREMENT,
    gateway_id BIGINT NOT NULL
        CONSTRAINT bypass_notices_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    workspace TEXT NOT NULL CONSTRAINT bypass_notices_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL CONSTRAINT bypass_notices_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    sandbox_uid TEXT NOT NULL CONSTRAINT bypass_notices_sandbox_uid_length CHECK (length(sandbox_uid) BETWEEN 1 AND 128),
    technique TEXT NOT NULL
        CONSTRAINT bypass_notices_technique_known CHECK (technique IN ('nsenter', 'unshare', 'netns', 'nftables', 'iptables', 'ip_route', 'bypass')),
    announced_at TIMESTAMP NOT NULL,
    waiting BIGINT NOT NULL CONSTRAINT bypass_notices_waiting_range CHECK (waiting >= 0),
    CONSTRAINT bypass_notices_gateway_id_sandbox_uid_technique_unique UNIQUE (gateway_id, sandbox_uid, technique)
);

CREATE INDEX bypass_notices_announced_at ON bypass_notices (announced_at);
