DROP TABLE sessions;
ALTER TABLE users DROP COLUMN oidc_issuer;
ALTER TABLE users DROP COLUMN invite_expires_at;
