CREATE TABLE access_changes (
    revision INTEGER NOT NULL CONSTRAINT access_changes_pk PRIMARY KEY AUTOINCREMENT,
    subject_kind TEXT NOT NULL
        CONSTRAINT access_changes_subject_kind_known CHECK (subject_kind IN ('user', 'service_principal', 'group', 'gateway')),
    subject_id BIGINT NOT NULL,
    changed_at TIMESTAMP NOT NULL
);
