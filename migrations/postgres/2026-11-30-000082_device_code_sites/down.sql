DROP INDEX device_codes_site;

ALTER TABLE device_codes DROP COLUMN site;
