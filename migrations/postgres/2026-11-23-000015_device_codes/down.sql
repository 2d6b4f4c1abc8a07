DROP TABLE device_tries;
DROP TABLE device_codes;
