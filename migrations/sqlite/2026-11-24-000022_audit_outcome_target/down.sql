DROP INDEX audit_log_outcome_target;

ALTER TABLE audit_log DROP COLUMN outcome_target;
