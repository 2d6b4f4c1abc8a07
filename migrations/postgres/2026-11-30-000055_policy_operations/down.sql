DROP INDEX approval_rounds_apply;

DELETE FROM operations WHERE resource_type = 'policy';

ALTER TABLE operations DROP CONSTRAINT operations_resource_type_known;

ALTER TABLE operations ADD CONSTRAINT operations_resource_type_known CHECK (resource_type IN ('sandbox', 'exec'));
