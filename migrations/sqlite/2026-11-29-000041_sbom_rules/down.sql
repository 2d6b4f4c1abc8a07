DROP TABLE sbom_rules;

DROP INDEX sbom_components_name_key;
CREATE INDEX sbom_components_name_key ON sbom_components (name_key, version_key, id);
DROP INDEX sbom_components_purl_key;
CREATE INDEX sbom_components_purl_key ON sbom_components (purl_key, id);

ALTER TABLE sbom_vulnerabilities DROP COLUMN counts;
ALTER TABLE sbom_vulnerabilities DROP COLUMN analysis_state;
