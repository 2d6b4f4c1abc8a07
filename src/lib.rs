//! Shoreguard: the control plane for fleets of OpenShell gateways.

pub mod config;
pub mod error;
pub mod secret;
