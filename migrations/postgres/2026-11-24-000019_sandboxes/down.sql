DROP TABLE ssh_sessions;
DROP TABLE sandbox_labels;
DROP TABLE sandbox_meta;
