-- Since when the gateway rejects Shoreguard's credential or grants it no permission; null if the credential is usable
-- or its state is unknown.
ALTER TABLE gateways ADD COLUMN credential_unusable_since TIMESTAMP;
