CREATE TABLE sandbox_boot_hooks (
    id INTEGER NOT NULL CONSTRAINT sandbox_boot_hooks_pk PRIMARY KEY AUTOINCREMENT,
    gateway_name TEXT NOT NULL
        CONSTRAINT sandbox_boot_hooks_gateway_name_fk REFERENCES gateways (name) ON DELETE CASCADE,
    workspace TEXT NOT NULL DEFAULT 'default'
        CONSTRAINT sandbox_boot_hooks_workspace_length CHECK (length(workspace) BETWEEN 1 AND 253),
    sandbox_name TEXT NOT NULL
        CONSTRAINT sandbox_boot_hooks_sandbox_name_length CHECK (length(sandbox_name) BETWEEN 1 AND 253),
    name TEXT NOT NULL CONSTRAINT sandbox_boot_hooks_name_length CHECK (length(name) BETWEEN 1 AND 128),
    phase TEXT NOT NULL
        CONSTRAINT sandbox_boot_hooks_phase_known CHECK (phase IN ('pre_create', 'post_create')),
    command TEXT NOT NULL CONSTRAINT sandbox_boot_hooks_command_length CHECK (length(command) BETWEEN 1 AND 8192),
    workdir TEXT NOT NULL DEFAULT '' CONSTRAINT sandbox_boot_hooks_workdir_length CHECK (length(workdir) <= 512),
    env_json BLOB,
    env_names TEXT NOT NULL DEFAULT '[]'
        CONSTRAINT sandbox_boot_hooks_env_names_length CHECK (length(env_names) <= 65536),
    timeout_seconds BIGINT NOT NULL DEFAULT 30
        CONSTRAINT sandbox_boot_hooks_timeout_seconds_range CHECK (timeout_seconds BETWEEN 1 AND 600),
    "order" BIGINT NOT NULL DEFAULT 0,
    enabled BOOLEAN NOT NULL DEFAULT TRUE,
    continue_on_failure BOOLEAN NOT NULL DEFAULT FALSE,
    created_by TEXT NOT NULL CONSTRAINT sandbox_boot_hooks_created_by_length CHECK (length(created_by) <= 254),
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    last_run_at TIMESTAMP,
    last_status TEXT
        CONSTRAINT sandbox_boot_hooks_last_status_known CHECK (last_status IN ('success', 'failure')),
    last_output TEXT CONSTRAINT sandbox_boot_hooks_last_output_length CHECK (length(last_output) <= 4096),
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT sandbox_boot_hooks_place_phase_name_unique UNIQUE (gateway_name, workspace, sandbox_name, phase, name)
);

CREATE INDEX sandbox_boot_hooks_place_phase_order
    ON sandbox_boot_hooks (gateway_name, workspace, sandbox_name, phase, "order");
