-- Since when a gateway was found to approve proposals by itself; null where it was not.
ALTER TABLE gateways ADD COLUMN automatic_approvals_since TIMESTAMP;
