//! Shoreguard: the control plane for fleets of OpenShell gateways.

pub mod error;
pub mod pb;
pub mod simulator;
