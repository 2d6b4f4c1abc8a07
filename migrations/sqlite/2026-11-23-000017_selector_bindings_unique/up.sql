CREATE UNIQUE INDEX selector_bindings_user_id_selector_unique ON selector_bindings (user_id, selector);

CREATE UNIQUE INDEX selector_bindings_sp_id_selector_unique ON selector_bindings (sp_id, selector);

CREATE UNIQUE INDEX selector_bindings_group_id_selector_unique ON selector_bindings (group_id, selector);
