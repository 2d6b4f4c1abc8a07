ALTER TABLE gateways DROP COLUMN credential_unusable_since;
