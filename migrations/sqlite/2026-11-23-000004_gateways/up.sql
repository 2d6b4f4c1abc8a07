CREATE TABLE gateways (
    id INTEGER NOT NULL CONSTRAINT gateways_pk PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL CONSTRAINT gateways_name_length CHECK (length(name) BETWEEN 1 AND 253),
    endpoint TEXT NOT NULL CONSTRAINT gateways_endpoint_length CHECK (length(endpoint) BETWEEN 1 AND 260),
    scheme TEXT NOT NULL DEFAULT 'https' CONSTRAINT gateways_scheme_known CHECK (scheme IN ('http', 'https')),
    auth_mode TEXT
        CONSTRAINT gateways_auth_mode_known CHECK (auth_mode IN ('none', 'mtls', 'bearer', 'oidc_client', 'oidc_issued')),
    ca_cert BLOB,
    client_cert BLOB,
    client_key BLOB,
    bearer_token BLOB,
    metadata_json TEXT CONSTRAINT gateways_metadata_json_length CHECK (length(metadata_json) <= 65536),
    description TEXT CONSTRAINT gateways_description_length CHECK (length(description) <= 4096),
    labels_json TEXT CONSTRAINT gateways_labels_json_length CHECK (length(labels_json) <= 65536),
    registered_at TIMESTAMP NOT NULL,
    last_seen TIMESTAMP,
    last_status TEXT NOT NULL DEFAULT 'unknown'
        CONSTRAINT gateways_last_status_known CHECK (last_status IN ('healthy', 'degraded', 'unhealthy', 'unspecified', 'unknown', 'unreachable')),
    wire_generation TEXT NOT NULL DEFAULT 'unknown'
        CONSTRAINT gateways_wire_generation_known CHECK (wire_generation IN ('unknown', '0.0', '0.1', 'unsupported')),
    gateway_version TEXT CONSTRAINT gateways_gateway_version_length CHECK (length(gateway_version) <= 100),
    latency_us BIGINT,
    last_error TEXT CONSTRAINT gateways_last_error_length CHECK (length(last_error) <= 4096),
    probed_at TIMESTAMP,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT gateways_name_unique UNIQUE (name)
);

CREATE TABLE gateway_labels (
    id INTEGER NOT NULL CONSTRAINT gateway_labels_pk PRIMARY KEY AUTOINCREMENT,
    gateway_id BIGINT NOT NULL
        CONSTRAINT gateway_labels_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    key TEXT NOT NULL CONSTRAINT gateway_labels_key_length CHECK (length(key) BETWEEN 1 AND 317),
    value TEXT NOT NULL CONSTRAINT gateway_labels_value_length CHECK (length(value) <= 253),
    CONSTRAINT gateway_labels_gateway_id_key_unique UNIQUE (gateway_id, key)
);

CREATE INDEX gateway_labels_key_value ON gateway_labels (key, value);
