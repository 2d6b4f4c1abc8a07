DROP TABLE access_change_retention;

DROP INDEX access_changes_transaction;
ALTER TABLE access_changes DROP COLUMN transaction_id;
