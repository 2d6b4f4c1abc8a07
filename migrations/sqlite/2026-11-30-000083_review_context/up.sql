-- Log lines of sandboxes about connections that their policies have refused, one row per line. at is the time of the
-- line, created_at the time at which it was read. host is that of the destination, in lower case. line_hash is the
-- SHA-256 of the line, in hexadecimal.
CREATE TABLE refused_connections (
    id INTEGER NOT NULL CONSTRAINT refused_connections_pk PRIMARY KEY AUTOINCREMENT,
    gateway_id BIGINT NOT NULL
        CONSTRAINT refused_connections_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    sandbox_uid TEXT NOT NULL
        CONSTRAINT refused_connections_sandbox_uid_length CHECK (length(sandbox_uid) BETWEEN 1 AND 128),
    at TIMESTAMP NOT NULL,
    "binary" TEXT NOT NULL CONSTRAINT refused_connections_binary_length CHECK (length("binary") BETWEEN 1 AND 253),
    host TEXT NOT NULL CONSTRAINT refused_connections_host_length CHECK (length(host) BETWEEN 1 AND 253),
    line TEXT NOT NULL CONSTRAINT refused_connections_line_length CHECK (length(line) <= 500),
    line_hash TEXT NOT NULL CONSTRAINT refused_connections_line_hash_length CHECK (length(line_hash) = 64),
    created_at TIMESTAMP NOT NULL,
    CONSTRAINT refused_connections_gateway_id_sandbox_uid_at_line_hash_unique UNIQUE (gateway_id, sandbox_uid, at, line_hash)
);

-- For the lines of the programs of a proposed rule, and of one connection.
CREATE INDEX refused_connections_uid_binary_host_at ON refused_connections (gateway_id, sandbox_uid, "binary", host, at);
-- For the number of lines of a gateway, and the oldest ones.
CREATE INDEX refused_connections_gateway_id_id ON refused_connections (gateway_id, id);
CREATE INDEX bypass_events_gateway_id_id ON bypass_events (gateway_id, id);
-- For the end of the retention period.
CREATE INDEX refused_connections_created_at ON refused_connections (created_at);

-- Since when a gateway has a policy for all sandboxes. Null if it has none, or if nothing is under review.
ALTER TABLE followed_gateways ADD COLUMN global_policy_since TIMESTAMP;

-- When a gateway has last dropped marks of a policy that it has written. Null if it was not seen to do so.
ALTER TABLE gateways ADD COLUMN marks_lost_at TIMESTAMP;
