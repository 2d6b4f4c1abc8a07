DROP TABLE setup_tokens;
DROP TABLE signing_keys;
