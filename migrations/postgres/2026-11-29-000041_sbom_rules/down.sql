DROP TABLE sbom_rules;

ALTER TABLE sbom_vulnerabilities DROP COLUMN counts;
ALTER TABLE sbom_vulnerabilities DROP COLUMN analysis_state;
