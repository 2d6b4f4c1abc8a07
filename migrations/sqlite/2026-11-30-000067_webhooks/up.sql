-- Receivers of events. url, secret, secret_before and extra_config are sealed, bound to uid, which is known before the
-- insert, and to the destination. failing_since and failures count failed attempts since the last success.
-- stopped_sequence is the last event that was queued before the webhook became inactive the last time. queued_after is
-- the id of the newest event when the webhook was created: only later ones are queued.
CREATE TABLE webhooks (
    id INTEGER NOT NULL CONSTRAINT webhooks_pk PRIMARY KEY AUTOINCREMENT,
    url BLOB NOT NULL CONSTRAINT webhooks_url_length CHECK (length(url) <= 10000),
    secret BLOB CONSTRAINT webhooks_secret_length CHECK (length(secret) <= 1000),
    event_types TEXT NOT NULL DEFAULT '[]'
        CONSTRAINT webhooks_event_types_length CHECK (length(event_types) <= 10000),
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    channel_type TEXT NOT NULL DEFAULT 'generic'
        CONSTRAINT webhooks_channel_type_known CHECK (channel_type IN ('generic', 'slack', 'discord', 'email')),
    extra_config BLOB CONSTRAINT webhooks_extra_config_length CHECK (length(extra_config) <= 100000),
    created_by TEXT NOT NULL CONSTRAINT webhooks_created_by_length CHECK (length(created_by) <= 254),
    created_at TIMESTAMP NOT NULL,
    uid TEXT NOT NULL CONSTRAINT webhooks_uid_length CHECK (length(uid) BETWEEN 1 AND 36),
    description TEXT NOT NULL DEFAULT ''
        CONSTRAINT webhooks_description_length CHECK (length(description) <= 500),
    principal TEXT CONSTRAINT webhooks_principal_length CHECK (length(principal) BETWEEN 1 AND 300),
    secret_before BLOB CONSTRAINT webhooks_secret_before_length CHECK (length(secret_before) <= 1000),
    secret_before_until TIMESTAMP,
    max_in_flight INTEGER NOT NULL DEFAULT 4
        CONSTRAINT webhooks_max_in_flight_range CHECK (max_in_flight BETWEEN 1 AND 64),
    rate_per_second INTEGER
        CONSTRAINT webhooks_rate_per_second_range CHECK (rate_per_second BETWEEN 1 AND 1000),
    gateways_json TEXT NOT NULL DEFAULT '[]'
        CONSTRAINT webhooks_gateways_json_length CHECK (length(gateways_json) <= 20000),
    failing_since TIMESTAMP,
    failures INTEGER NOT NULL DEFAULT 0,
    disabled_at TIMESTAMP,
    disabled_reason TEXT CONSTRAINT webhooks_disabled_reason_length CHECK (length(disabled_reason) <= 500),
    stopped_sequence BIGINT,
    queued_after BIGINT NOT NULL DEFAULT 0,
    updated_at TIMESTAMP NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT webhooks_uid_unique UNIQUE (uid)
);

-- Messages. attempt is the number of the current attempt: the next one of a pending message, otherwise the last one.
-- attempts_json has the attempts before the last one. Only pending messages have next_attempt_at: the indexes use it,
-- since a comparison with it proves their condition, and a parameter for the status does not.
CREATE TABLE webhook_deliveries (
    id INTEGER NOT NULL CONSTRAINT webhook_deliveries_pk PRIMARY KEY AUTOINCREMENT,
    webhook_id BIGINT NOT NULL
        CONSTRAINT webhook_deliveries_webhook_id_fk REFERENCES webhooks (id) ON DELETE CASCADE,
    event_type TEXT NOT NULL
        CONSTRAINT webhook_deliveries_event_type_length CHECK (length(event_type) BETWEEN 1 AND 100),
    payload_json TEXT NOT NULL CONSTRAINT webhook_deliveries_payload_json_length CHECK (length(payload_json) <= 40000),
    status TEXT NOT NULL DEFAULT 'pending'
        CONSTRAINT webhook_deliveries_status_known CHECK (status IN ('pending', 'success', 'failed')),
    response_code INTEGER,
    error_message TEXT CONSTRAINT webhook_deliveries_error_message_length CHECK (length(error_message) <= 1000),
    attempt INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMP NOT NULL,
    delivered_at TIMESTAMP,
    message_id TEXT NOT NULL
        CONSTRAINT webhook_deliveries_message_id_length CHECK (length(message_id) BETWEEN 1 AND 100),
    event_sequence BIGINT NOT NULL,
    next_attempt_at TIMESTAMP,
    last_attempt_at TIMESTAMP,
    duration_ms INTEGER,
    response_snippet TEXT
        CONSTRAINT webhook_deliveries_response_snippet_length CHECK (length(response_snippet) <= 1024),
    attempts_json TEXT NOT NULL DEFAULT '[]'
        CONSTRAINT webhook_deliveries_attempts_json_length CHECK (length(attempts_json) <= 100000),
    CONSTRAINT webhook_deliveries_message_id_unique UNIQUE (message_id),
    CONSTRAINT webhook_deliveries_webhook_id_event_sequence_unique UNIQUE (webhook_id, event_sequence),
    CONSTRAINT webhook_deliveries_next_attempt_form CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL))
);

CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (webhook_id, next_attempt_at, id)
    WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_deliveries_webhook_id_id ON webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (last_attempt_at) WHERE next_attempt_at IS NULL;

-- A single row: the last event for which all deliveries are stored. Later events are not deleted.
CREATE TABLE webhook_cursor (
    id BIGINT NOT NULL CONSTRAINT webhook_cursor_pk PRIMARY KEY CONSTRAINT webhook_cursor_one_row CHECK (id = 1),
    sequence BIGINT NOT NULL
);

INSERT INTO webhook_cursor (id, sequence) SELECT 1, sequence FROM event_head;
