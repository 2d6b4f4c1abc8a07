CREATE TABLE signing_keys (
    id INTEGER NOT NULL CONSTRAINT signing_keys_pk PRIMARY KEY AUTOINCREMENT,
    purpose TEXT NOT NULL CONSTRAINT signing_keys_purpose_length CHECK (length(purpose) BETWEEN 1 AND 50),
    key_id TEXT NOT NULL CONSTRAINT signing_keys_key_id_length CHECK (length(key_id) BETWEEN 1 AND 64),
    sealed BLOB NOT NULL,
    created_at TIMESTAMP NOT NULL,
    retired_at TIMESTAMP,
    CONSTRAINT signing_keys_key_id_unique UNIQUE (key_id)
);

CREATE TABLE setup_tokens (
    id BIGINT NOT NULL CONSTRAINT setup_tokens_pk PRIMARY KEY CONSTRAINT setup_tokens_one_row CHECK (id = 1),
    token_hash TEXT NOT NULL
        CONSTRAINT setup_tokens_token_hash_length CHECK (length(token_hash) BETWEEN 64 AND 64),
    created_at TIMESTAMP NOT NULL
);
