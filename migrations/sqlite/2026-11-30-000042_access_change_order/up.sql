-- Only PostgreSQL stores the transaction of a change: SQLite has one writer, so revisions are in the order of commits.
ALTER TABLE access_changes ADD COLUMN transaction_id BIGINT NOT NULL DEFAULT 0;

CREATE INDEX access_changes_transaction ON access_changes (transaction_id, revision) WHERE transaction_id > 0;

-- A single row: the highest revision of a deleted change, so that a reader that has not read it finds out.
CREATE TABLE access_change_retention (
    id BIGINT NOT NULL
        CONSTRAINT access_change_retention_pk PRIMARY KEY
        CONSTRAINT access_change_retention_one_row CHECK (id = 1),
    deleted_place BIGINT NOT NULL DEFAULT 0
);

INSERT INTO access_change_retention (id) VALUES (1);
