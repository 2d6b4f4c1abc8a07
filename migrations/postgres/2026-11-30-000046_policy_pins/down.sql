DROP TABLE policy_pins;
