-- Operations fail with the code `concurrent_change`. SQLite cannot change a CHECK in place.
ALTER TABLE operations RENAME TO operations_before;

DROP INDEX operations_resource_type_resource_key_unique;
DROP INDEX operations_lease;
DROP INDEX operations_owner;
DROP INDEX operations_created;
DROP INDEX operations_gateway;
DROP INDEX operations_principal;
DROP INDEX operations_completed;

CREATE TABLE operations (
    id TEXT NOT NULL
        CONSTRAINT operations_pk PRIMARY KEY
        CONSTRAINT operations_id_length CHECK (length(id) = 36),
    status TEXT NOT NULL
        CONSTRAINT operations_status_known
            CHECK (status IN ('pending', 'running', 'cancelling', 'succeeded', 'failed')),
    resource_type TEXT NOT NULL
        CONSTRAINT operations_resource_type_known CHECK (resource_type IN ('sandbox', 'exec', 'policy')),
    resource_key TEXT NOT NULL
        CONSTRAINT operations_resource_key_length CHECK (length(resource_key) BETWEEN 1 AND 253),
    idempotency_key TEXT CONSTRAINT operations_idempotency_key_length CHECK (length(idempotency_key) <= 253),
    progress_pct INTEGER NOT NULL DEFAULT 0
        CONSTRAINT operations_progress_pct_range CHECK (progress_pct BETWEEN 0 AND 100),
    progress_msg TEXT CONSTRAINT operations_progress_msg_length CHECK (length(progress_msg) <= 500),
    result_json BLOB CONSTRAINT operations_result_json_length CHECK (length(result_json) <= 66560),
    error_message TEXT CONSTRAINT operations_error_message_length CHECK (length(error_message) <= 500),
    error_code TEXT
        CONSTRAINT operations_error_code_known CHECK (
            error_code IN (
                'internal', 'timeout', 'cancelled', 'orphaned', 'gateway_unreachable', 'refused', 'concurrent_change'
            )
        ),
    actor TEXT NOT NULL CONSTRAINT operations_actor_length CHECK (length(actor) <= 254),
    gateway_name TEXT NOT NULL
        CONSTRAINT operations_gateway_name_length CHECK (length(gateway_name) BETWEEN 1 AND 253),
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    completed_at TIMESTAMP,
    workspace TEXT NOT NULL DEFAULT 'default'
        CONSTRAINT operations_workspace_length CHECK (length(workspace) BETWEEN 1 AND 253),
    sandbox_name TEXT NOT NULL DEFAULT ''
        CONSTRAINT operations_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    principal TEXT CONSTRAINT operations_principal_length CHECK (length(principal) <= 300),
    actor_role TEXT NOT NULL
        CONSTRAINT operations_actor_role_known CHECK (actor_role IN ('none', 'viewer', 'operator', 'admin')),
    gateway_id BIGINT NOT NULL,
    request_id TEXT NOT NULL CONSTRAINT operations_request_id_length CHECK (length(request_id) <= 128),
    owner TEXT CONSTRAINT operations_owner_length CHECK (length(owner) BETWEEN 1 AND 100),
    lease_expires_at TIMESTAMP,
    fence BIGINT NOT NULL DEFAULT 1,
    step TEXT NOT NULL DEFAULT '' CONSTRAINT operations_step_length CHECK (length(step) <= 1000),
    input BLOB CONSTRAINT operations_input_length CHECK (length(input) <= 2098176),
    keeps_output BOOLEAN NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT operations_completed_when_ended
        CHECK ((completed_at IS NOT NULL) = (status IN ('succeeded', 'failed'))),
    CONSTRAINT operations_owned_until_ended
        CHECK ((owner IS NULL) = (status IN ('succeeded', 'failed')) AND (owner IS NULL) = (lease_expires_at IS NULL)),
    CONSTRAINT operations_input_until_ended CHECK (input IS NULL OR status NOT IN ('succeeded', 'failed')),
    CONSTRAINT operations_failed_with_code CHECK ((error_code IS NOT NULL) = (status = 'failed')),
    CONSTRAINT operations_result_when_ended
        CHECK (result_json IS NULL OR status IN ('succeeded', 'failed'))
);

INSERT INTO operations (
    id, status, resource_type, resource_key, idempotency_key, progress_pct, progress_msg, result_json,
    error_message, error_code, actor, gateway_name, created_at, updated_at, completed_at, workspace,
    sandbox_name, principal, actor_role, gateway_id, request_id, owner, lease_expires_at, fence, step, input,
    keeps_output, version
)
SELECT
    id, status, resource_type, resource_key, idempotency_key, progress_pct, progress_msg, result_json,
    error_message, error_code, actor, gateway_name, created_at, updated_at, completed_at, workspace,
    sandbox_name, principal, actor_role, gateway_id, request_id, owner, lease_expires_at, fence, step, input,
    keeps_output, version
FROM operations_before;

DROP TABLE operations_before;

-- At most one unfinished operation per resource.
CREATE UNIQUE INDEX operations_resource_type_resource_key_unique ON operations (resource_type, resource_key)
    WHERE status IN ('pending', 'running', 'cancelling');
-- For operations whose lease has expired.
CREATE INDEX operations_lease ON operations (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
-- For the operations that a replica must cancel.
CREATE INDEX operations_owner ON operations (owner) WHERE owner IS NOT NULL;
-- For the list and its filters.
CREATE INDEX operations_created ON operations (created_at, id);
CREATE INDEX operations_gateway ON operations (gateway_id, created_at, id);
CREATE INDEX operations_principal ON operations (principal, created_at, id);
-- For the deletion by retention.
CREATE INDEX operations_completed ON operations (completed_at) WHERE completed_at IS NOT NULL;
