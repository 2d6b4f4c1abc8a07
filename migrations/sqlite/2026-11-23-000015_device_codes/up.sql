CREATE TABLE device_codes (
    id INTEGER NOT NULL CONSTRAINT device_codes_pk PRIMARY KEY AUTOINCREMENT,
    device_hash TEXT NOT NULL
        CONSTRAINT device_codes_device_hash_length CHECK (length(device_hash) BETWEEN 64 AND 64),
    user_hash TEXT NOT NULL CONSTRAINT device_codes_user_hash_length CHECK (length(user_hash) BETWEEN 64 AND 64),
    gateway TEXT NOT NULL CONSTRAINT device_codes_gateway_length CHECK (length(gateway) BETWEEN 1 AND 253),
    client_ip TEXT CONSTRAINT device_codes_client_ip_length CHECK (length(client_ip) <= 45),
    network TEXT NOT NULL CONSTRAINT device_codes_network_length CHECK (length(network) <= 45),
    state TEXT NOT NULL
        CONSTRAINT device_codes_state_known CHECK (state IN ('pending', 'approved', 'denied', 'consumed')),
    gateway_id BIGINT CONSTRAINT device_codes_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    user_id BIGINT CONSTRAINT device_codes_user_id_fk REFERENCES users (id) ON DELETE CASCADE,
    session_id BIGINT CONSTRAINT device_codes_session_id_fk REFERENCES sessions (id) ON DELETE CASCADE,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    polled_at TIMESTAMP,
    CONSTRAINT device_codes_device_hash_unique UNIQUE (device_hash),
    CONSTRAINT device_codes_user_hash_unique UNIQUE (user_hash)
);
CREATE INDEX device_codes_network ON device_codes (network);
CREATE INDEX device_codes_expires_at ON device_codes (expires_at);
CREATE INDEX device_codes_gateway_id ON device_codes (gateway_id);
CREATE INDEX device_codes_user_id ON device_codes (user_id);
CREATE INDEX device_codes_session_id ON device_codes (session_id);

CREATE TABLE device_tries (
    id INTEGER NOT NULL CONSTRAINT device_tries_pk PRIMARY KEY AUTOINCREMENT,
    user_id BIGINT NOT NULL CONSTRAINT device_tries_user_id_fk REFERENCES users (id) ON DELETE CASCADE,
    tries BIGINT NOT NULL CONSTRAINT device_tries_tries_range CHECK (tries >= 0),
    since TIMESTAMP NOT NULL,
    CONSTRAINT device_tries_user_id_unique UNIQUE (user_id)
);
CREATE INDEX device_tries_since ON device_tries (since);
