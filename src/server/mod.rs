//! The listener, and what every request passes on its way to a service or the proxy.

mod answer;
mod answering;
pub mod body;
mod connections;
mod descriptors;
mod dispatch;
pub mod health;
mod http_version;
mod in_flight;
pub mod layers;
pub mod listen;
mod plain_http;
pub mod reload;
pub mod services;
mod shared;
mod speak;
mod stack;
mod stages;
pub mod tls;
mod until;
