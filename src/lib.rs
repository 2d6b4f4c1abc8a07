//! Shoreguard: the control plane for fleets of OpenShell gateways.

// The future of a call contains one nested type per layer of the stack.
#![recursion_limit = "256"]

pub use shoreguard_proto as pb;

pub mod access;
pub mod app;
pub mod audit;
pub mod boot;
pub mod characters;
pub mod cli;
pub mod clock;
pub mod config;
pub mod ctx;
pub mod db;
pub mod digest;
pub mod disk;
pub mod error;
pub mod etag;
pub mod fair;
pub mod feed;
pub mod governance;
pub mod labels;
pub mod names;
pub mod net;
pub mod oidc;
pub mod openshell;
pub mod outbox;
pub mod policy;
pub mod private_files;
pub mod proxy;
pub mod resources;
pub mod role;
pub mod rpc;
pub mod safe_paths;
pub mod seal;
pub mod secret;
pub mod server;
pub mod status;
pub mod telemetry;
pub mod templates;
pub mod texts;
pub mod token_service;
pub mod upstream;
pub mod workers;
pub mod yaml_files;
