-- The transaction of a change. Transactions are committed in any order, so readers look for the transactions that they
-- have not read, not for higher revisions.
ALTER TABLE access_changes
    ADD COLUMN transaction_id BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text::bigint);

CREATE INDEX access_changes_transaction ON access_changes (transaction_id, revision);

-- A single row: the highest transaction of a deleted change, so that a reader that has not read it finds out.
CREATE TABLE access_change_retention (
    id BIGINT NOT NULL
        CONSTRAINT access_change_retention_pk PRIMARY KEY
        CONSTRAINT access_change_retention_one_row CHECK (id = 1),
    deleted_place BIGINT NOT NULL DEFAULT 0
);

INSERT INTO access_change_retention (id) VALUES (1);
