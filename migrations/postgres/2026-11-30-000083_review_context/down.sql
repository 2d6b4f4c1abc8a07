ALTER TABLE gateways DROP COLUMN marks_lost_at;
ALTER TABLE followed_gateways DROP COLUMN global_policy_since;
DROP INDEX bypass_events_gateway_id_id;
DROP TABLE refused_connections;
