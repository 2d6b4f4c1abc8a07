//! The integration tests: one binary, one PostgreSQL for all of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
mod support;

mod audit;
mod connections;
mod lease;
mod migrations;
mod postgres_tls;
mod service_principals;
mod storage;
mod tidy;
