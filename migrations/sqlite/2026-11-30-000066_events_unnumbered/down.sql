CREATE INDEX events_unnumbered ON events (id) WHERE sequence IS NULL;
