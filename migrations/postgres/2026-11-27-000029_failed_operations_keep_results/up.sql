-- An operation that has failed tells how the parts went that were done by then.
ALTER TABLE operations DROP CONSTRAINT operations_result_when_succeeded;

ALTER TABLE operations ADD CONSTRAINT operations_result_when_ended
    CHECK (result_json IS NULL OR status IN ('succeeded', 'failed'));
