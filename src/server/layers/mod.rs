//! The layers, one per file. `server::stack` defines their order and gives the reasons.

pub mod address_limit;
pub mod audit;
pub mod authn;
pub mod call;
pub mod call_metrics;
pub mod deadline;
pub mod gate;
pub mod grpc_web;
pub mod limits;
pub mod on_main;
pub mod open_calls;
pub mod own_hosts;
pub mod panics;
pub mod plain_http;
pub mod telemetry;

#[cfg(test)]
mod fixture;
