ALTER TABLE gateways DROP COLUMN marks_lost_at;
ALTER TABLE followed_gateways DROP COLUMN global_policy_since;
DROP TABLE refused_connections;
