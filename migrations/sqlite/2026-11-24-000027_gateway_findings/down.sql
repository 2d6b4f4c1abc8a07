ALTER TABLE gateways DROP COLUMN automatic_approvals_since;
