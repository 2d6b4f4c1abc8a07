//! The integration tests: one binary, one PostgreSQL for all of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod support;

mod access_bindings;
mod access_explained;
mod audit;
mod auth;
mod authz;
mod commands;
mod connections;
mod events;
mod flood;
mod gateways;
mod lease;
mod migrations;
mod postgres_tls;
mod proxy;
mod replicas;
mod service_principals;
mod storage;
mod tidy;
mod tls;
mod transport;
mod workers;
