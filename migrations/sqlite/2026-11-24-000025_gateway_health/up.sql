-- Health of a gateway, one row per change, kept for a day.
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

-- Probes of a gateway per hour: number, failures, and the latency of each response in microseconds, as four bytes each,
-- big-endian.
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
