DELETE FROM device_codes WHERE gateway IS NULL;

ALTER TABLE device_codes DROP CONSTRAINT device_codes_gateway_of_its_own;

ALTER TABLE device_codes ALTER COLUMN gateway SET NOT NULL;
