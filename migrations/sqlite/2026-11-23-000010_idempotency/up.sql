CREATE TABLE idempotency_keys (
    id INTEGER NOT NULL CONSTRAINT idempotency_keys_pk PRIMARY KEY AUTOINCREMENT,
    principal TEXT NOT NULL
        CONSTRAINT idempotency_keys_principal_length CHECK (length(principal) BETWEEN 1 AND 300),
    method TEXT NOT NULL CONSTRAINT idempotency_keys_method_length CHECK (length(method) BETWEEN 1 AND 255),
    request_id TEXT NOT NULL
        CONSTRAINT idempotency_keys_request_id_length CHECK (length(request_id) BETWEEN 1 AND 128),
    digest BLOB NOT NULL,
    state TEXT NOT NULL CONSTRAINT idempotency_keys_state_known CHECK (state IN ('running', 'done')),
    response BLOB,
    secret BOOLEAN NOT NULL,
    credential TEXT CONSTRAINT idempotency_keys_credential_length CHECK (length(credential) <= 300),
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    CONSTRAINT idempotency_keys_principal_method_request_id_unique UNIQUE (principal, method, request_id)
);

CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at);
