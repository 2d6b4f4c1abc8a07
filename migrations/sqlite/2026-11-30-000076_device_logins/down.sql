DELETE FROM device_codes WHERE gateway IS NULL;

ALTER TABLE device_codes RENAME TO device_codes_before;

DROP INDEX device_codes_network;
DROP INDEX device_codes_expires_at;
DROP INDEX device_codes_gateway_id;
DROP INDEX device_codes_user_id;
DROP INDEX device_codes_session_id;

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

INSERT INTO device_codes (
    id, device_hash, user_hash, gateway, client_ip, network, state, gateway_id, user_id, session_id, created_at,
    expires_at, polled_at
)
SELECT
    id, device_hash, user_hash, gateway, client_ip, network, state, gateway_id, user_id, session_id, created_at,
    expires_at, polled_at
FROM device_codes_before;

DROP TABLE device_codes_before;

CREATE INDEX device_codes_network ON device_codes (network);
CREATE INDEX device_codes_expires_at ON device_codes (expires_at);
CREATE INDEX device_codes_gateway_id ON device_codes (gateway_id);
CREATE INDEX device_codes_user_id ON device_codes (user_id);
CREATE INDEX device_codes_session_id ON device_codes (session_id);
