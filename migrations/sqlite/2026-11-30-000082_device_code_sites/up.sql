-- The IPv6 /48 network of the client address; empty for others. Codes live for minutes, so that those before have none.
ALTER TABLE device_codes ADD COLUMN site TEXT NOT NULL DEFAULT ''
    CONSTRAINT device_codes_site_length CHECK (length(site) <= 45);

CREATE INDEX device_codes_site ON device_codes (site);
