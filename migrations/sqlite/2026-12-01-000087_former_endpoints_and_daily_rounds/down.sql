DROP INDEX approval_rounds_gateway_id_opened_at;

DROP TABLE gateway_former_endpoints;
