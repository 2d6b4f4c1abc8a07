//! The integration tests: one binary that uses one PostgreSQL server.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue panics")]
#![expect(
    clippy::too_many_lines,
    reason = "a test that plays a long story is read from top to bottom"
)]

#[macro_use]
mod support;

mod access_binding_selectors;
mod access_bindings;
mod access_explained;
mod admins;
mod after_commit;
mod audit;
mod auth;
mod authz;
mod boot_hook_limits;
mod boot_hook_runs;
mod boot_hook_variables;
mod boot_hooks;
mod caller_certificates;
mod change_log;
mod check_config;
mod commands;
mod connections;
mod console_blocks;
mod crash;
mod dead_credentials;
mod discovery;
mod draining;
mod effective_roles;
mod events;
mod flood;
mod flood_connections;
mod gateway_budgets;
mod gateway_credential_checks;
mod gateway_credential_errors;
mod gateway_credentials;
mod gateway_health;
mod gateway_oidc_client;
mod gateway_settings;
mod gateway_unreachable;
mod gateway_unregister;
mod gateway_watch;
mod gateway_wire;
mod gateways;
mod groups;
mod grpc_web;
mod held_memory;
mod hostile;
mod in_flight;
mod invites;
mod last_admin;
mod late_rights;
mod lease;
mod log;
mod login;
mod login_turns;
mod lost_commits;
mod message_limits;
mod migrations;
mod oidc;
mod oidc_provider;
mod open_streams;
mod operation_ends;
mod operation_leases;
mod operation_rights;
mod operations;
mod plain_http;
mod policies;
mod policy_diffs;
mod policy_presets;
mod positions;
mod postgres_checks;
mod postgres_failover;
mod postgres_tls;
mod proxy;
mod rebinding;
mod refusals;
mod replays;
mod replicas;
mod sandboxes;
mod sbom_fleet;
mod sbom_rules;
mod sbom_search;
mod sbom_uploads;
mod sboms;
mod service_principal_rotation;
mod service_principals;
mod sessions;
mod setup;
mod sqlite_commits;
mod storage;
mod text_forms;
mod tidy;
mod tls;
mod tls_reload;
mod token_service;
mod traces;
mod transport;
mod turns;
mod untaken;
mod user_limits;
mod users;
mod workers;
