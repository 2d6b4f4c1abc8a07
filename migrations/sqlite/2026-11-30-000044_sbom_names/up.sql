-- The names of the components of an SBOM, one per line, as search_key has them. Each name once, in blocks of about two
-- kilobytes, so that a search for a part of a name reads a few pages instead of all components.
CREATE TABLE sbom_names (
    snapshot_id BIGINT NOT NULL
        CONSTRAINT sbom_names_snapshot_id_fk REFERENCES sbom_snapshots (id) ON DELETE CASCADE,
    part INTEGER NOT NULL,
    names TEXT NOT NULL,
    CONSTRAINT sbom_names_pk PRIMARY KEY (snapshot_id, part)
);
