DROP TABLE selector_bindings;
DROP TABLE group_gateway_roles;
DROP TABLE sp_gateway_roles;
DROP TABLE user_gateway_roles;
