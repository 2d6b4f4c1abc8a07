-- Log lines of sandboxes that show an attempt to bypass the policy, one row per line. at is the time of the line,
-- created_at the time at which it was read. line_hash is the SHA-256 of the line, in hexadecimal.
CREATE TABLE bypass_events (
    id INTEGER NOT NULL CONSTRAINT bypass_events_pk PRIMARY KEY AUTOINCREMENT,
    gateway_id BIGINT NOT NULL
        CONSTRAINT bypass_events_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    gateway_name TEXT NOT NULL CONSTRAINT bypass_events_gateway_name_length CHECK (length(gateway_name) <= 253),
    workspace TEXT NOT NULL CONSTRAINT bypass_events_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL CONSTRAINT bypass_events_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    sandbox_uid TEXT NOT NULL CONSTRAINT bypass_events_sandbox_uid_length CHECK (length(sandbox_uid) BETWEEN 1 AND 128),
    at TIMESTAMP NOT NULL,
    severity TEXT NOT NULL
        CONSTRAINT bypass_events_severity_known CHECK (severity IN ('INFO', 'LOW', 'MED', 'HIGH', 'CRIT', 'FATAL')),
    technique TEXT NOT NULL
        CONSTRAINT bypass_events_technique_known CHECK (technique IN ('nsenter', 'unshare', 'netns', 'nftables', 'iptables', 'ip_route', 'bypass')),
    mitre_id TEXT NOT NULL CONSTRAINT bypass_events_mitre_id_length CHECK (length(mitre_id) <= 16),
    "binary" TEXT CONSTRAINT bypass_events_binary_length CHECK (length("binary") <= 1024),
    summary TEXT NOT NULL CONSTRAINT bypass_events_summary_length CHECK (length(summary) <= 1024),
    fields_json TEXT NOT NULL CONSTRAINT bypass_events_fields_json_length CHECK (length(fields_json) <= 65536),
    raw_class TEXT NOT NULL
        CONSTRAINT bypass_events_raw_class_known CHECK (raw_class IN ('FINDING', 'NET', 'PROC')),
    raw_disposition TEXT
        CONSTRAINT bypass_events_raw_disposition_known CHECK (raw_disposition IN ('ALLOWED', 'DENIED', 'BLOCKED')),
    line_hash TEXT NOT NULL CONSTRAINT bypass_events_line_hash_length CHECK (length(line_hash) = 64),
    created_at TIMESTAMP NOT NULL,
    CONSTRAINT bypass_events_gateway_id_sandbox_uid_at_line_hash_unique UNIQUE (gateway_id, sandbox_uid, at, line_hash)
);

CREATE INDEX bypass_events_place_id ON bypass_events (gateway_id, workspace, sandbox_name, id);
CREATE INDEX bypass_events_uid_id ON bypass_events (gateway_id, sandbox_uid, id);
CREATE INDEX bypass_events_created_at ON bypass_events (created_at);
