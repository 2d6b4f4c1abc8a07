//! The integration tests: one binary, one PostgreSQL for all of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod support;

mod access_bindings;
mod access_explained;
mod admins;
mod audit;
mod auth;
mod authz;
mod boot_hook_runs;
mod boot_hooks;
mod commands;
mod connections;
mod crash;
mod discovery;
mod events;
mod flood;
mod gateway_budgets;
mod gateway_credentials;
mod gateway_health;
mod gateway_oidc_client;
mod gateway_settings;
mod gateway_unregister;
mod gateway_watch;
mod gateway_wire;
mod gateways;
mod groups;
mod hostile;
mod invites;
mod last_admin;
mod lease;
mod login;
mod lost_commits;
mod message_limits;
mod migrations;
mod oidc;
mod oidc_provider;
mod operation_ends;
mod operation_leases;
mod operations;
mod plain_http;
mod postgres_tls;
mod proxy;
mod rebinding;
mod refusals;
mod replicas;
mod sandboxes;
mod sbom_fleet;
mod sbom_uploads;
mod sboms;
mod service_principals;
mod sessions;
mod setup;
mod storage;
mod tidy;
mod tls;
mod tls_reload;
mod token_service;
mod traces;
mod transport;
mod users;
mod workers;
