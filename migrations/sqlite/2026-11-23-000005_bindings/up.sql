CREATE TABLE user_gateway_roles (
    id INTEGER NOT NULL CONSTRAINT user_gateway_roles_pk PRIMARY KEY AUTOINCREMENT,
    user_id BIGINT NOT NULL CONSTRAINT user_gateway_roles_user_id_fk REFERENCES users (id) ON DELETE CASCADE,
    gateway_id BIGINT NOT NULL
        CONSTRAINT user_gateway_roles_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    role TEXT NOT NULL
        CONSTRAINT user_gateway_roles_role_known CHECK (role IN ('none', 'viewer', 'operator', 'admin')),
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT user_gateway_roles_user_id_gateway_id_unique UNIQUE (user_id, gateway_id)
);

CREATE INDEX user_gateway_roles_gateway_id ON user_gateway_roles (gateway_id);

CREATE TABLE sp_gateway_roles (
    id INTEGER NOT NULL CONSTRAINT sp_gateway_roles_pk PRIMARY KEY AUTOINCREMENT,
    sp_id BIGINT NOT NULL
        CONSTRAINT sp_gateway_roles_sp_id_fk REFERENCES service_principals (id) ON DELETE CASCADE,
    gateway_id BIGINT NOT NULL
        CONSTRAINT sp_gateway_roles_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    role TEXT NOT NULL
        CONSTRAINT sp_gateway_roles_role_known CHECK (role IN ('none', 'viewer', 'operator', 'admin')),
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT sp_gateway_roles_sp_id_gateway_id_unique UNIQUE (sp_id, gateway_id)
);

CREATE INDEX sp_gateway_roles_gateway_id ON sp_gateway_roles (gateway_id);

CREATE TABLE group_gateway_roles (
    id INTEGER NOT NULL CONSTRAINT group_gateway_roles_pk PRIMARY KEY AUTOINCREMENT,
    group_id BIGINT NOT NULL
        CONSTRAINT group_gateway_roles_group_id_fk REFERENCES groups (id) ON DELETE CASCADE,
    gateway_id BIGINT NOT NULL
        CONSTRAINT group_gateway_roles_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    role TEXT NOT NULL
        CONSTRAINT group_gateway_roles_role_known CHECK (role IN ('none', 'viewer', 'operator', 'admin')),
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT group_gateway_roles_group_id_gateway_id_unique UNIQUE (group_id, gateway_id)
);

CREATE INDEX group_gateway_roles_gateway_id ON group_gateway_roles (gateway_id);

CREATE TABLE selector_bindings (
    id INTEGER NOT NULL CONSTRAINT selector_bindings_pk PRIMARY KEY AUTOINCREMENT,
    subject_kind TEXT NOT NULL
        CONSTRAINT selector_bindings_subject_kind_known CHECK (subject_kind IN ('user', 'service_principal', 'group')),
    user_id BIGINT CONSTRAINT selector_bindings_user_id_fk REFERENCES users (id) ON DELETE CASCADE,
    sp_id BIGINT CONSTRAINT selector_bindings_sp_id_fk REFERENCES service_principals (id) ON DELETE CASCADE,
    group_id BIGINT CONSTRAINT selector_bindings_group_id_fk REFERENCES groups (id) ON DELETE CASCADE,
    selector TEXT NOT NULL
        CONSTRAINT selector_bindings_selector_length CHECK (length(selector) BETWEEN 1 AND 4096),
    role TEXT NOT NULL
        CONSTRAINT selector_bindings_role_known CHECK (role IN ('none', 'viewer', 'operator', 'admin')),
    created_at TIMESTAMP NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT selector_bindings_one_subject CHECK (
        (subject_kind = 'user' AND user_id IS NOT NULL AND sp_id IS NULL AND group_id IS NULL)
        OR (subject_kind = 'service_principal' AND user_id IS NULL AND sp_id IS NOT NULL AND group_id IS NULL)
        OR (subject_kind = 'group' AND user_id IS NULL AND sp_id IS NULL AND group_id IS NOT NULL)
    )
);

CREATE INDEX selector_bindings_user_id ON selector_bindings (user_id);

CREATE INDEX selector_bindings_sp_id ON selector_bindings (sp_id);

CREATE INDEX selector_bindings_group_id ON selector_bindings (group_id);
