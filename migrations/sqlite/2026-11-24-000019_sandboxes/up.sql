CREATE TABLE sandbox_meta (
    id INTEGER NOT NULL CONSTRAINT sandbox_meta_pk PRIMARY KEY AUTOINCREMENT,
    gateway_name TEXT NOT NULL
        CONSTRAINT sandbox_meta_gateway_name_fk REFERENCES gateways (name) ON DELETE CASCADE,
    workspace TEXT NOT NULL DEFAULT 'default'
        CONSTRAINT sandbox_meta_workspace_length CHECK (length(workspace) BETWEEN 1 AND 253),
    sandbox_name TEXT NOT NULL
        CONSTRAINT sandbox_meta_sandbox_name_length CHECK (length(sandbox_name) BETWEEN 1 AND 253),
    sandbox_id TEXT CONSTRAINT sandbox_meta_sandbox_id_length CHECK (length(sandbox_id) BETWEEN 1 AND 1024),
    description TEXT CONSTRAINT sandbox_meta_description_length CHECK (length(description) <= 4096),
    labels_json TEXT CONSTRAINT sandbox_meta_labels_json_length CHECK (length(labels_json) <= 65536),
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP,
    missing_since TIMESTAMP,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT sandbox_meta_gateway_name_workspace_sandbox_name_unique UNIQUE (gateway_name, workspace, sandbox_name)
);

CREATE TABLE sandbox_labels (
    id INTEGER NOT NULL CONSTRAINT sandbox_labels_pk PRIMARY KEY AUTOINCREMENT,
    meta_id BIGINT NOT NULL
        CONSTRAINT sandbox_labels_meta_id_fk REFERENCES sandbox_meta (id) ON DELETE CASCADE,
    key TEXT NOT NULL CONSTRAINT sandbox_labels_key_length CHECK (length(key) BETWEEN 1 AND 317),
    value TEXT NOT NULL CONSTRAINT sandbox_labels_value_length CHECK (length(value) <= 253),
    CONSTRAINT sandbox_labels_meta_id_key_unique UNIQUE (meta_id, key)
);
CREATE INDEX sandbox_labels_key_value ON sandbox_labels (key, value);

CREATE TABLE ssh_sessions (
    id INTEGER NOT NULL CONSTRAINT ssh_sessions_pk PRIMARY KEY AUTOINCREMENT,
    gateway_name TEXT NOT NULL
        CONSTRAINT ssh_sessions_gateway_name_fk REFERENCES gateways (name) ON DELETE CASCADE,
    workspace TEXT NOT NULL DEFAULT 'default'
        CONSTRAINT ssh_sessions_workspace_length CHECK (length(workspace) BETWEEN 1 AND 253),
    sandbox_name TEXT NOT NULL
        CONSTRAINT ssh_sessions_sandbox_name_length CHECK (length(sandbox_name) BETWEEN 1 AND 253),
    token_hash TEXT NOT NULL
        CONSTRAINT ssh_sessions_token_hash_length CHECK (length(token_hash) BETWEEN 64 AND 64),
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    CONSTRAINT ssh_sessions_gateway_name_token_hash_unique UNIQUE (gateway_name, token_hash)
);
CREATE INDEX ssh_sessions_expires_at ON ssh_sessions (expires_at);
CREATE INDEX ssh_sessions_gateway_name_workspace_sandbox_name
    ON ssh_sessions (gateway_name, workspace, sandbox_name);
