CREATE TABLE service_principals (
    id INTEGER NOT NULL CONSTRAINT service_principals_pk PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL CONSTRAINT service_principals_name_length CHECK (length(name) BETWEEN 1 AND 100),
    key_hash TEXT NOT NULL
        CONSTRAINT service_principals_key_hash_length CHECK (length(key_hash) BETWEEN 64 AND 64),
    key_prefix TEXT CONSTRAINT service_principals_key_prefix_length CHECK (length(key_prefix) <= 12),
    role TEXT NOT NULL
        CONSTRAINT service_principals_role_known CHECK (role IN ('none', 'viewer', 'operator', 'admin')),
    created_by BIGINT CONSTRAINT service_principals_created_by_fk REFERENCES users (id) ON DELETE SET NULL,
    created_at TIMESTAMP NOT NULL,
    last_used TIMESTAMP,
    expires_at TIMESTAMP,
    key_version BIGINT NOT NULL DEFAULT 1,
    previous_key_hash TEXT
        CONSTRAINT service_principals_previous_key_hash_length CHECK (length(previous_key_hash) BETWEEN 64 AND 64),
    previous_key_expires_at TIMESTAMP,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT service_principals_name_unique UNIQUE (name),
    CONSTRAINT service_principals_key_hash_unique UNIQUE (key_hash),
    CONSTRAINT service_principals_previous_key_hash_unique UNIQUE (previous_key_hash)
);

CREATE INDEX service_principals_created_by ON service_principals (created_by);
