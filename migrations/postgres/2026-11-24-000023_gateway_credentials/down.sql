DROP TABLE gateway_certificates;
ALTER TABLE gateways DROP COLUMN pinned_generation;
ALTER TABLE gateways DROP COLUMN server_cert_ends_at;
ALTER TABLE gateways DROP COLUMN oidc_client_secret;
ALTER TABLE gateways DROP COLUMN oidc_client_id;
ALTER TABLE gateways DROP COLUMN oidc_audience;
ALTER TABLE gateways DROP COLUMN oidc_scope;
ALTER TABLE gateways DROP COLUMN oidc_token_url;
