DROP TABLE sbom_affects;
DROP TABLE sbom_vulnerabilities;
DROP TABLE sbom_components;
DROP TABLE sbom_snapshots;
