CREATE TABLE sbom_snapshots (
    id INTEGER NOT NULL CONSTRAINT sbom_snapshots_pk PRIMARY KEY AUTOINCREMENT,
    gateway_name TEXT NOT NULL
        CONSTRAINT sbom_snapshots_gateway_name_fk REFERENCES gateways (name) ON DELETE CASCADE,
    workspace TEXT NOT NULL DEFAULT 'default'
        CONSTRAINT sbom_snapshots_workspace_length CHECK (length(workspace) BETWEEN 1 AND 253),
    sandbox_name TEXT NOT NULL
        CONSTRAINT sbom_snapshots_sandbox_name_length CHECK (length(sandbox_name) BETWEEN 1 AND 253),
    bom_format TEXT NOT NULL CONSTRAINT sbom_snapshots_bom_format_length CHECK (length(bom_format) <= 32),
    spec_version TEXT NOT NULL CONSTRAINT sbom_snapshots_spec_version_length CHECK (length(spec_version) <= 16),
    serial_number TEXT CONSTRAINT sbom_snapshots_serial_number_length CHECK (length(serial_number) <= 128),
    uploaded_by TEXT NOT NULL CONSTRAINT sbom_snapshots_uploaded_by_length CHECK (length(uploaded_by) <= 254),
    uploaded_at TIMESTAMP NOT NULL,
    component_count BIGINT NOT NULL DEFAULT 0,
    vulnerability_count BIGINT NOT NULL DEFAULT 0,
    max_severity TEXT CONSTRAINT sbom_snapshots_max_severity_known
        CHECK (max_severity IN ('CRITICAL', 'HIGH', 'MEDIUM', 'LOW', 'INFO', 'NONE', 'UNKNOWN')),
    sha256 TEXT NOT NULL CONSTRAINT sbom_snapshots_sha256_length CHECK (length(sha256) = 64),
    size_bytes BIGINT NOT NULL,
    raw_json BLOB NOT NULL,
    CONSTRAINT sbom_snapshots_gateway_name_workspace_sandbox_name_unique UNIQUE (gateway_name, workspace, sandbox_name)
);

-- The *_key columns are used to search and sort: in lower case, and short enough for an index.
CREATE TABLE sbom_components (
    id INTEGER NOT NULL CONSTRAINT sbom_components_pk PRIMARY KEY AUTOINCREMENT,
    snapshot_id BIGINT NOT NULL
        CONSTRAINT sbom_components_snapshot_id_fk REFERENCES sbom_snapshots (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    bom_ref TEXT CONSTRAINT sbom_components_bom_ref_length CHECK (length(bom_ref) <= 512),
    name TEXT NOT NULL CONSTRAINT sbom_components_name_length CHECK (length(name) BETWEEN 1 AND 512),
    group_name TEXT CONSTRAINT sbom_components_group_name_length CHECK (length(group_name) <= 512),
    version TEXT CONSTRAINT sbom_components_version_length CHECK (length(version) <= 128),
    purl TEXT CONSTRAINT sbom_components_purl_length CHECK (length(purl) <= 1024),
    type TEXT CONSTRAINT sbom_components_type_length CHECK (length(type) <= 32),
    licenses TEXT CONSTRAINT sbom_components_licenses_length CHECK (length(licenses) <= 1024),
    vuln_count INTEGER NOT NULL DEFAULT 0,
    max_severity TEXT CONSTRAINT sbom_components_max_severity_known
        CHECK (max_severity IN ('CRITICAL', 'HIGH', 'MEDIUM', 'LOW', 'INFO', 'NONE', 'UNKNOWN')),
    name_key TEXT NOT NULL,
    version_key TEXT NOT NULL,
    purl_key TEXT NOT NULL,
    search_key TEXT NOT NULL
);
-- Contains the searched text, so that a search reads only this index.
CREATE INDEX sbom_components_snapshot ON sbom_components (snapshot_id, position, search_key);
-- A partial index with few rows, since most components have no known severity.
CREATE INDEX sbom_components_max_severity ON sbom_components (snapshot_id, max_severity, position)
    WHERE max_severity IS NOT NULL;
CREATE INDEX sbom_components_name_key ON sbom_components (name_key, version_key, id);
CREATE INDEX sbom_components_purl_key ON sbom_components (purl_key, id);

CREATE TABLE sbom_vulnerabilities (
    id INTEGER NOT NULL CONSTRAINT sbom_vulnerabilities_pk PRIMARY KEY AUTOINCREMENT,
    snapshot_id BIGINT NOT NULL
        CONSTRAINT sbom_vulnerabilities_snapshot_id_fk REFERENCES sbom_snapshots (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    vulnerability TEXT NOT NULL
        CONSTRAINT sbom_vulnerabilities_vulnerability_length CHECK (length(vulnerability) BETWEEN 1 AND 256),
    severity TEXT NOT NULL CONSTRAINT sbom_vulnerabilities_severity_known
        CHECK (severity IN ('CRITICAL', 'HIGH', 'MEDIUM', 'LOW', 'INFO', 'NONE', 'UNKNOWN')),
    cvss_score DOUBLE PRECISION,
    description TEXT CONSTRAINT sbom_vulnerabilities_description_length CHECK (length(description) <= 4096),
    affects_count INTEGER NOT NULL DEFAULT 0,
    references_json TEXT NOT NULL
);
CREATE INDEX sbom_vulnerabilities_snapshot ON sbom_vulnerabilities (snapshot_id, position);

CREATE TABLE sbom_affects (
    id INTEGER NOT NULL CONSTRAINT sbom_affects_pk PRIMARY KEY AUTOINCREMENT,
    snapshot_id BIGINT NOT NULL
        CONSTRAINT sbom_affects_snapshot_id_fk REFERENCES sbom_snapshots (id) ON DELETE CASCADE,
    vulnerability_position BIGINT NOT NULL,
    position BIGINT NOT NULL,
    bom_ref TEXT NOT NULL CONSTRAINT sbom_affects_bom_ref_length CHECK (length(bom_ref) <= 512)
);
CREATE INDEX sbom_affects_vulnerability ON sbom_affects (snapshot_id, vulnerability_position, position);
CREATE INDEX sbom_affects_bom_ref ON sbom_affects (snapshot_id, bom_ref, vulnerability_position);
