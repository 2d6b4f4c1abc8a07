-- Endpoints that a gateway had while a pin or workflow applied to it. No other gateway gets them while one does.
CREATE TABLE gateway_former_endpoints (
    gateway_id BIGINT NOT NULL
        CONSTRAINT gateway_former_endpoints_gateway_id_fk REFERENCES gateways (id) ON DELETE CASCADE,
    endpoint TEXT NOT NULL
        CONSTRAINT gateway_former_endpoints_endpoint_length CHECK (length(endpoint) BETWEEN 1 AND 300),
    CONSTRAINT gateway_former_endpoints_pk PRIMARY KEY (gateway_id, endpoint)
);

CREATE INDEX gateway_former_endpoints_endpoint ON gateway_former_endpoints (endpoint);

-- For the number of rounds that a principal proposes in a day.
CREATE INDEX approval_rounds_gateway_id_opened_at ON approval_rounds (gateway_id, opened_at);
