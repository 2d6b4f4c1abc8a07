-- A code without a gateway is for a session of Shoreguard's own API.
ALTER TABLE device_codes ALTER COLUMN gateway DROP NOT NULL;

ALTER TABLE device_codes ADD CONSTRAINT device_codes_gateway_of_its_own
    CHECK (gateway IS NOT NULL OR gateway_id IS NULL);
