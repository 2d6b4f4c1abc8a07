DROP TABLE event_head;
DROP TABLE events;
