-- What a gateway last sent too much of, and until when it counts as over budget.
CREATE TABLE gateway_budgets (
    id INTEGER NOT NULL CONSTRAINT gateway_budgets_pk PRIMARY KEY AUTOINCREMENT,
    gateway_id BIGINT NOT NULL
        CONSTRAINT gateway_budgets_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    sent TEXT NOT NULL
        CONSTRAINT gateway_budgets_sent_known CHECK (sent IN ('bytes', 'messages', 'sandboxes')),
    most BIGINT NOT NULL,
    until_at TIMESTAMP NOT NULL,
    CONSTRAINT gateway_budgets_gateway_id_unique UNIQUE (gateway_id)
);
