-- Operations fail with the code `concurrent_change`.
ALTER TABLE operations DROP CONSTRAINT operations_error_code_known;

ALTER TABLE operations ADD CONSTRAINT operations_error_code_known CHECK (
    error_code IN (
        'internal', 'timeout', 'cancelled', 'orphaned', 'gateway_unreachable', 'refused', 'concurrent_change'
    )
);
