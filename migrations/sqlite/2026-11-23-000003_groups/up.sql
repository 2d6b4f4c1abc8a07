CREATE TABLE groups (
    id INTEGER NOT NULL CONSTRAINT groups_pk PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL CONSTRAINT groups_name_length CHECK (length(name) BETWEEN 1 AND 100),
    description TEXT CONSTRAINT groups_description_length CHECK (length(description) <= 4096),
    role TEXT NOT NULL DEFAULT 'viewer'
        CONSTRAINT groups_role_known CHECK (role IN ('none', 'viewer', 'operator', 'admin')),
    created_at TIMESTAMP NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT groups_name_unique UNIQUE (name)
);

CREATE TABLE group_members (
    id INTEGER NOT NULL CONSTRAINT group_members_pk PRIMARY KEY AUTOINCREMENT,
    group_id BIGINT NOT NULL CONSTRAINT group_members_group_id_fk REFERENCES groups (id) ON DELETE CASCADE,
    user_id BIGINT NOT NULL CONSTRAINT group_members_user_id_fk REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT group_members_group_id_user_id_unique UNIQUE (group_id, user_id)
);

CREATE INDEX group_members_user_id ON group_members (user_id);
