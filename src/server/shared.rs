//! What the calls of one core share.

use std::sync::Arc;

use super::layers::address_limit::AddressLimit;
use super::layers::grpc_web::Origins;
use super::layers::open_calls::OpenCalls;
use super::plain::Plain;
use crate::app::App;
use crate::proxy::Proxy;

/// What one core answers calls with.
pub(super) struct Shared {
    pub(super) app: Arc<App>,
    pub(super) address_limit: Arc<AddressLimit>,
    /// For methods that anyone may call, such as logging in: far lower, since each guess costs us work.
    pub(super) public_limit: Arc<AddressLimit>,
    /// What calls hold while they are open.
    pub(super) open_calls: Arc<OpenCalls>,
    pub(super) router: axum::Router,
    /// Reflection for whoever selects a gateway of generation 0.0.
    pub(super) reflection_v0_0: axum::Router,
    pub(super) proxy: Proxy,
    /// Pages that may call by gRPC-Web.
    pub(super) origins: Origins,
    /// What is no call.
    pub(super) plain: Plain,
}
