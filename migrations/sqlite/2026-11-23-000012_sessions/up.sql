ALTER TABLE users ADD COLUMN invite_expires_at TIMESTAMP;
ALTER TABLE users ADD COLUMN oidc_issuer TEXT CONSTRAINT users_oidc_issuer_length CHECK (length(oidc_issuer) <= 2048);

CREATE TABLE sessions (
    id INTEGER NOT NULL CONSTRAINT sessions_pk PRIMARY KEY AUTOINCREMENT,
    user_id BIGINT NOT NULL CONSTRAINT sessions_user_id_fk REFERENCES users (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CONSTRAINT sessions_kind_known CHECK (kind IN ('password', 'oidc', 'device')),
    gateway_id BIGINT CONSTRAINT sessions_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    family_hash TEXT NOT NULL
        CONSTRAINT sessions_family_hash_length CHECK (length(family_hash) BETWEEN 64 AND 64),
    refresh_hash TEXT NOT NULL
        CONSTRAINT sessions_refresh_hash_length CHECK (length(refresh_hash) BETWEEN 64 AND 64),
    password_version BIGINT NOT NULL,
    client_ip TEXT CONSTRAINT sessions_client_ip_length CHECK (length(client_ip) <= 45),
    authenticated_at TIMESTAMP NOT NULL,
    created_at TIMESTAMP NOT NULL,
    refreshed_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    revoked_at TIMESTAMP,
    CONSTRAINT sessions_family_hash_unique UNIQUE (family_hash)
);
CREATE INDEX sessions_user_id ON sessions (user_id, id);
CREATE INDEX sessions_gateway_id ON sessions (gateway_id);
CREATE INDEX sessions_expires_at ON sessions (expires_at);
