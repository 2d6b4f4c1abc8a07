DROP INDEX approval_rounds_gateway_id_proposer_closed_at;
DROP INDEX approval_rounds_gateway_id_proposer_opened_at;
CREATE INDEX approval_rounds_gateway_id_opened_at ON approval_rounds (gateway_id, opened_at);

ALTER TABLE approval_rounds DROP COLUMN proposer;
