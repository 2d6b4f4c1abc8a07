-- When the gateway was first found to approve proposals automatically; null if it does not.
ALTER TABLE gateways ADD COLUMN automatic_approvals_since TIMESTAMP;
