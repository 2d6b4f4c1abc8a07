-- What a gateway was found to be, a row for each change, for a day.
CREATE TABLE gateway_states (
    id INTEGER NOT NULL CONSTRAINT gateway_states_pk PRIMARY KEY AUTOINCREMENT,
    gateway_id BIGINT NOT NULL
        CONSTRAINT gateway_states_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    began_at TIMESTAMP NOT NULL,
    status TEXT NOT NULL
        CONSTRAINT gateway_states_status_known CHECK (status IN ('healthy', 'degraded', 'unhealthy', 'unspecified', 'unreachable')),
    gateway_version TEXT CONSTRAINT gateway_states_gateway_version_length CHECK (length(gateway_version) <= 100),
    error TEXT CONSTRAINT gateway_states_error_length CHECK (length(error) <= 4096)
);

CREATE INDEX gateway_states_gateway_id ON gateway_states (gateway_id, id);

-- The probes of a gateway by the hour: how many, how many failed, and how long each answer took, as microseconds in
-- four bytes each, most significant first.
CREATE TABLE gateway_probe_hours (
    id INTEGER NOT NULL CONSTRAINT gateway_probe_hours_pk PRIMARY KEY AUTOINCREMENT,
    gateway_id BIGINT NOT NULL
        CONSTRAINT gateway_probe_hours_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    hour_at TIMESTAMP NOT NULL,
    probes BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    latencies BLOB NOT NULL,
    CONSTRAINT gateway_probe_hours_gateway_id_hour_at_unique UNIQUE (gateway_id, hour_at)
);
