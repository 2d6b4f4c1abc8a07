UPDATE operations SET result_json = NULL WHERE status = 'failed';

ALTER TABLE operations DROP CONSTRAINT operations_result_when_ended;

ALTER TABLE operations ADD CONSTRAINT operations_result_when_succeeded
    CHECK (result_json IS NULL OR status = 'succeeded');
