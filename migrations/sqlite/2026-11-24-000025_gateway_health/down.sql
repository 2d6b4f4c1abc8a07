DROP TABLE gateway_probe_hours;
DROP TABLE gateway_states;
