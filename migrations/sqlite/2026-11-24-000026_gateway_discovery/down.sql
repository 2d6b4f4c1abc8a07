DROP TABLE gateway_discovery_runs;
