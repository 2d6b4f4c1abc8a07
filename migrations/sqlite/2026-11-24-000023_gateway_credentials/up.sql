ALTER TABLE gateways ADD COLUMN oidc_token_url TEXT
    CONSTRAINT gateways_oidc_token_url_length CHECK (length(oidc_token_url) <= 2000);
ALTER TABLE gateways ADD COLUMN oidc_scope TEXT
    CONSTRAINT gateways_oidc_scope_length CHECK (length(oidc_scope) <= 1000);
ALTER TABLE gateways ADD COLUMN oidc_audience TEXT
    CONSTRAINT gateways_oidc_audience_length CHECK (length(oidc_audience) <= 1000);
ALTER TABLE gateways ADD COLUMN oidc_client_id TEXT
    CONSTRAINT gateways_oidc_client_id_length CHECK (length(oidc_client_id) <= 255);
ALTER TABLE gateways ADD COLUMN oidc_client_secret BLOB;
ALTER TABLE gateways ADD COLUMN server_cert_ends_at TIMESTAMP;
ALTER TABLE gateways ADD COLUMN pinned_generation TEXT
    CONSTRAINT gateways_pinned_generation_known CHECK (pinned_generation IN ('0.0', '0.1'));

-- Expiry of the certificates of a gateway, and the number of days left at the last warning.
CREATE TABLE gateway_certificates (
    id INTEGER NOT NULL CONSTRAINT gateway_certificates_pk PRIMARY KEY AUTOINCREMENT,
    gateway_id BIGINT NOT NULL
        CONSTRAINT gateway_certificates_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CONSTRAINT gateway_certificates_kind_known CHECK (kind IN ('ca', 'client', 'server')),
    expires_at TIMESTAMP NOT NULL,
    told_days BIGINT,
    CONSTRAINT gateway_certificates_gateway_id_kind_unique UNIQUE (gateway_id, kind)
);
