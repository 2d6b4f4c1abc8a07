-- Results of discovery, one row per run; only the newest rows are kept.
CREATE TABLE gateway_discovery_runs (
    id INTEGER NOT NULL CONSTRAINT gateway_discovery_runs_pk PRIMARY KEY AUTOINCREMENT,
    began_at TIMESTAMP NOT NULL,
    ended_at TIMESTAMP NOT NULL,
    actor TEXT NOT NULL CONSTRAINT gateway_discovery_runs_actor_length CHECK (length(actor) <= 254),
    found BIGINT NOT NULL,
    registered BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    domains_json TEXT NOT NULL CONSTRAINT gateway_discovery_runs_domains_json_length CHECK (length(domains_json) <= 65536)
);
