//! The typed client of one gateway: what we ask of any gateway, whatever its generation.

use std::time::Duration;

use crate::app::App;
use crate::error::{Error, Reason};
use crate::resources::gateways::targets::{Generation, Target};

/// How a gateway says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Unspecified,
    Healthy,
    Degraded,
    Unhealthy,
}
/// What a probe has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub status: Health,
    pub version: String,
    pub generation: Generation,
    pub latency: Duration,
}
pub async fn probe(_app: &App, _target: &Target, _timeout: Duration) -> Result<Probe, Error> {
    Err(Error::unavailable(Reason::GatewayUnreachable, "x"))
}
