DROP TABLE follow_positions;
DROP TABLE followed_gateways;
