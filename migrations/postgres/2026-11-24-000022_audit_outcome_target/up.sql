-- Resource of a call that is known only at its end: the name that a gateway gave to an unnamed sandbox.
ALTER TABLE audit_log ADD COLUMN outcome_target TEXT
    CONSTRAINT audit_log_outcome_target_length CHECK (length(outcome_target) <= 253);

CREATE INDEX audit_log_outcome_target ON audit_log (outcome_target, closed_at, id)
    WHERE outcome_target IS NOT NULL AND closed_at IS NOT NULL;
