//! Shoreguard: the control plane for fleets of OpenShell gateways.

pub mod access;
pub mod app;
pub mod clock;
pub mod ctx;
pub mod db;
pub mod error;
pub mod pb;
pub mod resources;
pub mod seal;
pub mod secret;
pub mod transport;
pub mod workers;
