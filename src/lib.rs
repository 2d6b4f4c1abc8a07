//! Shoreguard: the control plane for fleets of OpenShell gateways.

pub mod db;
pub mod error;
pub mod seal;
pub mod secret;
pub mod workers;
