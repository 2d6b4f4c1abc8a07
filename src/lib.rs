//! Shoreguard: the control plane for fleets of OpenShell gateways.

pub mod cli;
pub mod config;
pub mod error;
pub mod pb;
pub mod seal;
pub mod secret;
pub mod telemetry;
