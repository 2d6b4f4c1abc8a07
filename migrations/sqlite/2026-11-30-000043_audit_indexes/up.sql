-- Nearly all calls end as `ok`: a list of these is read from the index of all closed entries, so that closing an entry
-- writes one index less.
DROP INDEX audit_log_outcome;
DROP INDEX audit_log_action;
DROP INDEX audit_log_actor;
DROP INDEX audit_log_resource_id;
DROP INDEX audit_log_request;

-- If a list has several filters, SQLite uses the index that was created last: the indexes are in the order of the number
-- of entries that they find, the fewest last.
CREATE INDEX audit_log_action ON audit_log (action, closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_actor ON audit_log (actor, closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_not_ok ON audit_log (outcome, closed_at, id)
    WHERE closed_at IS NOT NULL AND outcome <> 'ok';
CREATE INDEX audit_log_resource_id ON audit_log (resource_id, closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX audit_log_request ON audit_log (request_id, closed_at, id) WHERE closed_at IS NOT NULL;
