CREATE TABLE login_budgets (
    id INTEGER NOT NULL CONSTRAINT login_budgets_pk PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL CONSTRAINT login_budgets_subject_length CHECK (length(subject) BETWEEN 1 AND 80),
    account TEXT CONSTRAINT login_budgets_account_length CHECK (length(account) <= 80),
    milli_failures BIGINT NOT NULL CONSTRAINT login_budgets_milli_failures_range CHECK (milli_failures >= 0),
    counted_at TIMESTAMP NOT NULL,
    forget_at TIMESTAMP NOT NULL,
    CONSTRAINT login_budgets_subject_unique UNIQUE (subject)
);
CREATE INDEX login_budgets_forget_at ON login_budgets (forget_at);
CREATE INDEX login_budgets_account ON login_budgets (account);

CREATE TABLE known_addresses (
    id INTEGER NOT NULL CONSTRAINT known_addresses_pk PRIMARY KEY AUTOINCREMENT,
    user_id BIGINT NOT NULL CONSTRAINT known_addresses_user_id_fk REFERENCES users (id) ON DELETE CASCADE,
    address TEXT NOT NULL CONSTRAINT known_addresses_address_length CHECK (length(address) BETWEEN 1 AND 80),
    seen_at TIMESTAMP NOT NULL,
    CONSTRAINT known_addresses_user_id_address_unique UNIQUE (user_id, address)
);
CREATE INDEX known_addresses_seen_at ON known_addresses (seen_at);
