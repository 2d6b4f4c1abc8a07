-- Rows of leases are never deleted, since the fence must not start again.
CREATE TABLE leases (
    name TEXT NOT NULL
        CONSTRAINT leases_pk PRIMARY KEY
        CONSTRAINT leases_name_length CHECK (length(name) BETWEEN 1 AND 300),
    owner TEXT NOT NULL CONSTRAINT leases_owner_length CHECK (length(owner) BETWEEN 1 AND 100),
    fence BIGINT NOT NULL,
    expires_at TIMESTAMP NOT NULL
);

CREATE TABLE replicas (
    id TEXT NOT NULL
        CONSTRAINT replicas_pk PRIMARY KEY
        CONSTRAINT replicas_id_length CHECK (length(id) BETWEEN 1 AND 100),
    started_at TIMESTAMP NOT NULL,
    heartbeat_at TIMESTAMP NOT NULL
);
