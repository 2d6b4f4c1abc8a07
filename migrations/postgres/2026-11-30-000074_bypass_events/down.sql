DROP TABLE bypass_events;
