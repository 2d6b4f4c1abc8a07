ALTER TABLE followed_gateways DROP COLUMN global_policy_since;
DROP TABLE refused_connections;
