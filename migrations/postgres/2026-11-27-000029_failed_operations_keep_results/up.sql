-- A failed operation keeps the results of the parts that were done.
ALTER TABLE operations DROP CONSTRAINT operations_result_when_succeeded;

ALTER TABLE operations ADD CONSTRAINT operations_result_when_ended
    CHECK (result_json IS NULL OR status IN ('succeeded', 'failed'));
