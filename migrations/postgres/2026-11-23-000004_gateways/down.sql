DROP TABLE gateway_labels;
DROP TABLE gateways;
