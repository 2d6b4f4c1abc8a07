-- gateway_id is not a foreign key: an entry does not change when its gateway is unregistered.
CREATE TABLE audit_log (
    id INTEGER NOT NULL CONSTRAINT audit_log_pk PRIMARY KEY AUTOINCREMENT,
    "timestamp" TIMESTAMP NOT NULL,
    actor TEXT NOT NULL CONSTRAINT audit_log_actor_length CHECK (length(actor) <= 254),
    actor_role TEXT NOT NULL CONSTRAINT audit_log_actor_role_length CHECK (length(actor_role) <= 20),
    action TEXT NOT NULL CONSTRAINT audit_log_action_length CHECK (length(action) <= 100),
    resource_type TEXT NOT NULL CONSTRAINT audit_log_resource_type_length CHECK (length(resource_type) <= 50),
    resource_id TEXT NOT NULL DEFAULT ''
        CONSTRAINT audit_log_resource_id_length CHECK (length(resource_id) <= 253),
    gateway_name TEXT CONSTRAINT audit_log_gateway_name_length CHECK (length(gateway_name) <= 253),
    gateway_id BIGINT,
    detail TEXT CONSTRAINT audit_log_detail_length CHECK (length(detail) <= 65536),
    client_ip TEXT CONSTRAINT audit_log_client_ip_length CHECK (length(client_ip) <= 45),
    principal TEXT CONSTRAINT audit_log_principal_length CHECK (length(principal) <= 300),
    request_id TEXT NOT NULL CONSTRAINT audit_log_request_id_length CHECK (length(request_id) <= 128),
    method TEXT NOT NULL CONSTRAINT audit_log_method_length CHECK (length(method) <= 255),
    digest BLOB,
    digest_key_id TEXT CONSTRAINT audit_log_digest_key_id_length CHECK (length(digest_key_id) <= 64),
    owner TEXT NOT NULL CONSTRAINT audit_log_owner_length CHECK (length(owner) <= 100),
    closed_at TIMESTAMP,
    outcome TEXT
        CONSTRAINT audit_log_outcome_known CHECK (outcome IN ('ok', 'denied', 'failed', 'unauthenticated', 'unknown')),
    code INTEGER,
    outcome_detail TEXT CONSTRAINT audit_log_outcome_detail_length CHECK (length(outcome_detail) <= 65536),
    duration_us BIGINT,
    bytes_in BIGINT,
    bytes_out BIGINT,
    intent_link BIGINT,
    outcome_link BIGINT,
    CONSTRAINT audit_log_closed_with_outcome CHECK ((closed_at IS NULL) = (outcome IS NULL))
);

-- Partial indexes: an open entry has one small index entry here, and a closed entry has one in each of the others.
CREATE INDEX audit_log_open ON audit_log (id) WHERE closed_at IS NULL;
-- One index per filter of the list, in the order of the list.
CREATE INDEX audit_log_closed ON audit_log (closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_actor ON audit_log (actor, closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_action ON audit_log (action, closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_resource_type ON audit_log (resource_type, closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_resource_id ON audit_log (resource_id, closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_gateway ON audit_log (gateway_name, closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_outcome ON audit_log (outcome, closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_request ON audit_log (request_id, closed_at, id) WHERE closed_at IS NOT NULL;
-- Entries that took at least a minute, or an unknown time. All other entries began within a minute before they were
-- closed, so a filter by begin time needs this index only for the exceptions.
CREATE INDEX audit_log_long ON audit_log (closed_at, id)
    WHERE closed_at IS NOT NULL AND COALESCE(duration_us, 60000000) >= 60000000;

CREATE UNIQUE INDEX audit_log_intent_link_unique ON audit_log (intent_link) WHERE intent_link IS NOT NULL;
CREATE UNIQUE INDEX audit_log_outcome_link_unique ON audit_log (outcome_link) WHERE outcome_link IS NOT NULL;
