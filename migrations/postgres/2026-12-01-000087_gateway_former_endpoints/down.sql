DROP TABLE gateway_former_endpoints;
