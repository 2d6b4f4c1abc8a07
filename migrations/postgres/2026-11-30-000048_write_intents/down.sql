DROP TABLE write_intents;
