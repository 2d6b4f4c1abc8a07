DROP INDEX audit_log_not_ok;

CREATE INDEX audit_log_outcome ON audit_log (outcome, closed_at, id) WHERE closed_at IS NOT NULL;
