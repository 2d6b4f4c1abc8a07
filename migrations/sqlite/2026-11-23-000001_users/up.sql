CREATE TABLE users (
    id INTEGER NOT NULL CONSTRAINT users_pk PRIMARY KEY AUTOINCREMENT,
    email TEXT NOT NULL CONSTRAINT users_email_length CHECK (length(email) BETWEEN 1 AND 254),
    hashed_password TEXT CONSTRAINT users_hashed_password_length CHECK (length(hashed_password) <= 128),
    role TEXT NOT NULL CONSTRAINT users_role_known CHECK (role IN ('none', 'viewer', 'operator', 'admin')),
    is_active BOOLEAN NOT NULL,
    invite_token_hash TEXT CONSTRAINT users_invite_token_hash_length CHECK (length(invite_token_hash) <= 64),
    created_at TIMESTAMP NOT NULL,
    oidc_provider TEXT CONSTRAINT users_oidc_provider_length CHECK (length(oidc_provider) <= 100),
    oidc_sub TEXT CONSTRAINT users_oidc_sub_length CHECK (length(oidc_sub) <= 255),
    password_version BIGINT NOT NULL DEFAULT 1,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT users_email_unique UNIQUE (email),
    CONSTRAINT users_invite_token_hash_unique UNIQUE (invite_token_hash),
    CONSTRAINT users_oidc_provider_oidc_sub_unique UNIQUE (oidc_provider, oidc_sub)
);
