DROP TABLE sbom_names;
