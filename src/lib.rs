//! Shoreguard: the control plane for fleets of OpenShell gateways.

pub use shoreguard_proto as pb;

pub mod access;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod ctx;
pub mod db;
pub mod digest;
pub mod error;
pub mod etag;
pub mod fair;
pub mod labels;
pub mod names;
pub mod net;
pub mod oidc;
pub mod openshell;
pub mod proxy;
pub mod resources;
pub mod seal;
pub mod secret;
pub mod telemetry;
pub mod token_service;
pub mod transport;
pub mod trusted;
pub mod workers;
