-- For the number of notices of a gateway, and the oldest ones.
CREATE INDEX bypass_notices_gateway_id_id ON bypass_notices (gateway_id, id);
