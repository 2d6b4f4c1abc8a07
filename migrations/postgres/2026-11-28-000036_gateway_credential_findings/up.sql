-- Since when the gateway rejects our credential, or permits it nothing; null if the credential is usable or unknown.
ALTER TABLE gateways ADD COLUMN credential_unusable_since TIMESTAMP;
