-- Rules about who must approve, one per scope. Without rule_json the columns of the row are the whole rule. The scope
-- is a selector, a gateway, a workspace or a sandbox. broken_since is the time since when the rule cannot be met.
CREATE TABLE approval_workflows (
    id INTEGER NOT NULL CONSTRAINT approval_workflows_pk PRIMARY KEY AUTOINCREMENT,
    selector TEXT CONSTRAINT approval_workflows_selector_length CHECK (length(selector) BETWEEN 1 AND 4096),
    gateway_name TEXT
        CONSTRAINT approval_workflows_gateway_name_fk REFERENCES gateways (name) ON DELETE CASCADE,
    workspace TEXT CONSTRAINT approval_workflows_workspace_length CHECK (length(workspace) BETWEEN 1 AND 253),
    sandbox_name TEXT CONSTRAINT approval_workflows_sandbox_name_length CHECK (length(sandbox_name) BETWEEN 1 AND 253),
    required_approvals INTEGER NOT NULL
        CONSTRAINT approval_workflows_required_approvals_range CHECK (required_approvals BETWEEN 1 AND 20),
    required_roles_json TEXT NOT NULL DEFAULT '[]'
        CONSTRAINT approval_workflows_required_roles_json_length CHECK (length(required_roles_json) <= 1000),
    distinct_actors BOOLEAN NOT NULL DEFAULT TRUE,
    escalation_timeout_minutes INTEGER
        CONSTRAINT approval_workflows_escalation_timeout_minutes_range
            CHECK (escalation_timeout_minutes BETWEEN 1 AND 10080),
    created_by TEXT NOT NULL CONSTRAINT approval_workflows_created_by_length CHECK (length(created_by) <= 254),
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    rule_json TEXT CONSTRAINT approval_workflows_rule_json_length CHECK (length(rule_json) BETWEEN 1 AND 262144),
    principal TEXT CONSTRAINT approval_workflows_principal_length CHECK (length(principal) BETWEEN 1 AND 300),
    broken_since TIMESTAMP,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT approval_workflows_scope_form CHECK (
        (selector IS NOT NULL AND gateway_name IS NULL AND workspace IS NULL AND sandbox_name IS NULL)
        OR (selector IS NULL AND gateway_name IS NOT NULL AND (workspace IS NOT NULL OR sandbox_name IS NULL))
    )
);

CREATE UNIQUE INDEX approval_workflows_selector_unique ON approval_workflows (selector) WHERE selector IS NOT NULL;
CREATE UNIQUE INDEX approval_workflows_gateway_name_unique ON approval_workflows (gateway_name)
    WHERE workspace IS NULL AND selector IS NULL;
CREATE UNIQUE INDEX approval_workflows_gateway_name_workspace_unique ON approval_workflows (gateway_name, workspace)
    WHERE workspace IS NOT NULL AND sandbox_name IS NULL;
CREATE UNIQUE INDEX approval_workflows_gateway_name_workspace_sandbox_name_unique
    ON approval_workflows (gateway_name, workspace, sandbox_name) WHERE sandbox_name IS NOT NULL;

-- Reviews of one exact content each. gateway_id is 0 if the scope is a selector, and not a foreign key: a closed round
-- is kept for the record when its gateway is unregistered. The large columns are the last ones, since SQLite reads a
-- row up to the column that it needs.
CREATE TABLE approval_rounds (
    id INTEGER NOT NULL CONSTRAINT approval_rounds_pk PRIMARY KEY AUTOINCREMENT,
    decided_at TIMESTAMP,
    apply_by TIMESTAMP,
    close_reason TEXT CONSTRAINT approval_rounds_close_reason_length CHECK (length(close_reason) <= 1000),
    gateway_told BOOLEAN NOT NULL DEFAULT FALSE,
    operation_id TEXT CONSTRAINT approval_rounds_operation_id_length CHECK (length(operation_id) BETWEEN 36 AND 36),
    attempts INTEGER NOT NULL DEFAULT 0,
    written_version BIGINT,
    written_hash TEXT CONSTRAINT approval_rounds_written_hash_length CHECK (length(written_hash) BETWEEN 1 AND 1024),
    previous_id BIGINT,
    override_id BIGINT,
    action TEXT NOT NULL
        CONSTRAINT approval_rounds_action_known CHECK (
            action IN (
                'policy.apply', 'draft.approve', 'draft.undo', 'rule.change', 'override.review'
            )
        ),
    gateway_id BIGINT NOT NULL,
    gateway_name TEXT NOT NULL CONSTRAINT approval_rounds_gateway_name_length CHECK (length(gateway_name) <= 253),
    workspace TEXT NOT NULL CONSTRAINT approval_rounds_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL CONSTRAINT approval_rounds_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    sandbox_id TEXT CONSTRAINT approval_rounds_sandbox_id_length CHECK (length(sandbox_id) BETWEEN 1 AND 1024),
    chunk_id TEXT NOT NULL CONSTRAINT approval_rounds_chunk_id_length CHECK (length(chunk_id) BETWEEN 1 AND 128),
    state TEXT NOT NULL
        CONSTRAINT approval_rounds_state_known CHECK (
            state IN (
                'open', 'approved', 'sending', 'written', 'applied', 'rejected', 'withdrawn', 'expired',
                'superseded', 'failed', 'rolled_back'
            )
        ),
    digest TEXT NOT NULL CONSTRAINT approval_rounds_digest_length CHECK (length(digest) BETWEEN 64 AND 64),
    generation TEXT
        CONSTRAINT approval_rounds_generation_known CHECK (generation IN ('0.0', '0.1')),
    base_version BIGINT,
    base_digest TEXT CONSTRAINT approval_rounds_base_digest_length CHECK (length(base_digest) BETWEEN 64 AND 64),
    effective_hash TEXT
        CONSTRAINT approval_rounds_effective_hash_length CHECK (length(effective_hash) BETWEEN 1 AND 1024),
    authors_json TEXT NOT NULL
        CONSTRAINT approval_rounds_authors_json_length CHECK (length(authors_json) BETWEEN 2 AND 65536),
    owner TEXT CONSTRAINT approval_rounds_owner_length CHECK (length(owner) BETWEEN 1 AND 300),
    summary_json TEXT NOT NULL
        CONSTRAINT approval_rounds_summary_json_length CHECK (length(summary_json) BETWEEN 2 AND 65536),
    grant_minutes INTEGER CONSTRAINT approval_rounds_grant_minutes_range CHECK (grant_minutes >= 1),
    opened_at TIMESTAMP NOT NULL,
    escalates_at TIMESTAMP,
    escalated_at TIMESTAMP,
    expires_at TIMESTAMP,
    due_at TIMESTAMP,
    closed_at TIMESTAMP,
    version BIGINT NOT NULL DEFAULT 1,
    content BLOB NOT NULL CONSTRAINT approval_rounds_content_length CHECK (length(content) <= 614400),
    rules_json TEXT CONSTRAINT approval_rounds_rules_json_length CHECK (length(rules_json) BETWEEN 1 AND 1048576),
    CONSTRAINT approval_rounds_closed_when_ended CHECK (
        (closed_at IS NOT NULL)
        = (state IN ('applied', 'rejected', 'withdrawn', 'expired', 'superseded', 'failed', 'rolled_back'))
    )
);

-- One open round per content.
CREATE UNIQUE INDEX approval_rounds_place_action_chunk_id_unique
    ON approval_rounds (gateway_id, workspace, sandbox_name, action, chunk_id) WHERE closed_at IS NULL;
-- For the clocks.
CREATE INDEX approval_rounds_due_at ON approval_rounds (due_at) WHERE closed_at IS NULL;
-- For the inbox, of the fleet and of one gateway.
CREATE INDEX approval_rounds_expires_at ON approval_rounds (expires_at, id) WHERE closed_at IS NULL;
CREATE INDEX approval_rounds_gateway_id_expires_at ON approval_rounds (gateway_id, expires_at, id)
    WHERE closed_at IS NULL;
-- For the end of the retention period.
CREATE INDEX approval_rounds_closed_at ON approval_rounds (closed_at) WHERE closed_at IS NOT NULL;
-- For the history of a sandbox.
CREATE INDEX approval_rounds_place_opened_at ON approval_rounds (gateway_id, workspace, sandbox_name, opened_at);

-- Votes. A vote that no longer counts has cleared_at. round_id is null for imported votes, and workflow_id, which is
-- the narrowest workflow, also where no workflow applied. Neither is a foreign key.
CREATE TABLE approval_decisions (
    id INTEGER NOT NULL CONSTRAINT approval_decisions_pk PRIMARY KEY AUTOINCREMENT,
    workflow_id BIGINT,
    gateway_name TEXT NOT NULL CONSTRAINT approval_decisions_gateway_name_length CHECK (length(gateway_name) <= 253),
    workspace TEXT NOT NULL CONSTRAINT approval_decisions_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL CONSTRAINT approval_decisions_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    chunk_id TEXT NOT NULL CONSTRAINT approval_decisions_chunk_id_length CHECK (length(chunk_id) BETWEEN 1 AND 128),
    actor TEXT NOT NULL CONSTRAINT approval_decisions_actor_length CHECK (length(actor) <= 254),
    role TEXT NOT NULL
        CONSTRAINT approval_decisions_role_known CHECK (role IN ('none', 'viewer', 'operator', 'admin')),
    decision TEXT NOT NULL
        CONSTRAINT approval_decisions_decision_known CHECK (decision IN ('approve', 'reject')),
    comment TEXT CONSTRAINT approval_decisions_comment_length CHECK (length(comment) <= 1000),
    created_at TIMESTAMP NOT NULL,
    round_id BIGINT,
    principal TEXT CONSTRAINT approval_decisions_principal_length CHECK (length(principal) BETWEEN 1 AND 300),
    digest TEXT CONSTRAINT approval_decisions_digest_length CHECK (length(digest) BETWEEN 64 AND 64),
    grant_minutes INTEGER CONSTRAINT approval_decisions_grant_minutes_range CHECK (grant_minutes >= 1),
    cleared_at TIMESTAMP
);

CREATE UNIQUE INDEX approval_decisions_round_id_principal_unique ON approval_decisions (round_id, principal)
    WHERE cleared_at IS NULL;
CREATE INDEX approval_decisions_place_chunk_id ON approval_decisions (gateway_name, sandbox_name, chunk_id);
-- Also of the votes that were cleared.
CREATE INDEX approval_decisions_round_id ON approval_decisions (round_id);

-- The documents of proposed policies. A proposal whose round has ended has cleared_at.
CREATE TABLE policy_apply_proposals (
    id INTEGER NOT NULL CONSTRAINT policy_apply_proposals_pk PRIMARY KEY AUTOINCREMENT,
    gateway_name TEXT NOT NULL
        CONSTRAINT policy_apply_proposals_gateway_name_length CHECK (length(gateway_name) <= 253),
    workspace TEXT NOT NULL CONSTRAINT policy_apply_proposals_workspace_length CHECK (length(workspace) <= 253),
    sandbox_name TEXT NOT NULL
        CONSTRAINT policy_apply_proposals_sandbox_name_length CHECK (length(sandbox_name) <= 253),
    chunk_id TEXT NOT NULL CONSTRAINT policy_apply_proposals_chunk_id_length CHECK (length(chunk_id) BETWEEN 1 AND 80),
    yaml_text TEXT NOT NULL CONSTRAINT policy_apply_proposals_yaml_text_length CHECK (length(yaml_text) <= 262144),
    expected_hash TEXT
        CONSTRAINT policy_apply_proposals_expected_hash_length CHECK (length(expected_hash) BETWEEN 1 AND 1024),
    proposed_by TEXT NOT NULL CONSTRAINT policy_apply_proposals_proposed_by_length CHECK (length(proposed_by) <= 254),
    proposed_at TIMESTAMP NOT NULL,
    round_id BIGINT,
    mode TEXT NOT NULL DEFAULT 'replace'
        CONSTRAINT policy_apply_proposals_mode_known CHECK (mode IN ('replace', 'merge')),
    principal TEXT CONSTRAINT policy_apply_proposals_principal_length CHECK (length(principal) BETWEEN 1 AND 300),
    cleared_at TIMESTAMP
);

CREATE UNIQUE INDEX policy_apply_proposals_place_chunk_id_unique
    ON policy_apply_proposals (gateway_name, workspace, sandbox_name, chunk_id) WHERE cleared_at IS NULL;
CREATE INDEX policy_apply_proposals_round_id ON policy_apply_proposals (round_id);
