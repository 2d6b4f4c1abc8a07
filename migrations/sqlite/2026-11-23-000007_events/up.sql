CREATE TABLE events (
    id INTEGER NOT NULL CONSTRAINT events_pk PRIMARY KEY AUTOINCREMENT,
    sequence BIGINT,
    name TEXT NOT NULL CONSTRAINT events_name_length CHECK (length(name) BETWEEN 1 AND 100),
    gateway_id BIGINT,
    gateway_name TEXT CONSTRAINT events_gateway_name_length CHECK (length(gateway_name) <= 253),
    actor TEXT CONSTRAINT events_actor_length CHECK (length(actor) <= 254),
    payload_json TEXT NOT NULL CONSTRAINT events_payload_json_length CHECK (length(payload_json) <= 262144),
    occurred_at TIMESTAMP NOT NULL,
    CONSTRAINT events_sequence_unique UNIQUE (sequence)
);

CREATE INDEX events_unnumbered ON events (id) WHERE sequence IS NULL;

-- A single row: the last assigned number, so that numbers have no gaps, and the oldest stored one, so that a reader
-- whose position was deleted gets an error even if no event is left.
CREATE TABLE event_head (
    id BIGINT NOT NULL CONSTRAINT event_head_pk PRIMARY KEY CONSTRAINT event_head_one_row CHECK (id = 1),
    sequence BIGINT NOT NULL DEFAULT 0,
    oldest BIGINT NOT NULL DEFAULT 1
);

INSERT INTO event_head (id) VALUES (1);
