-- What the document says of a vulnerability, and whether it counts for severities.
ALTER TABLE sbom_vulnerabilities ADD COLUMN analysis_state TEXT
    CONSTRAINT sbom_vulnerabilities_analysis_state_known CHECK (
        analysis_state IN
        ('exploitable', 'in_triage', 'false_positive', 'not_affected', 'resolved', 'resolved_with_pedigree')
    );
ALTER TABLE sbom_vulnerabilities ADD COLUMN counts BOOLEAN NOT NULL DEFAULT TRUE;

-- The number of the rules by which the rows of an SBOM were computed. An SBOM without a row was stored by a version
-- that did not number them. A table of its own, since SQLite reads a column behind a large document slowly.
CREATE TABLE sbom_rules (
    snapshot_id INTEGER NOT NULL
        CONSTRAINT sbom_rules_pk PRIMARY KEY
        CONSTRAINT sbom_rules_snapshot_id_fk REFERENCES sbom_snapshots (id) ON DELETE CASCADE,
    rules INTEGER NOT NULL
);

-- With the text that decides, so that a search reads only the index.
DROP INDEX sbom_components_name_key;
CREATE INDEX sbom_components_name_key ON sbom_components (name_key, version_key, id, search_key);
DROP INDEX sbom_components_purl_key;
CREATE INDEX sbom_components_purl_key ON sbom_components (purl_key, id, search_key);
