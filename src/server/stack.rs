//! The stack of layers. Every call passes them in this order, whether it is unary, a stream or proxied.
//!
//! A layer is an async function from a request and the inner service to a response, or a check: a function from one
//! stage to the next. Each stage of a call has its own type, so the compiler checks the order. Layers only touch memory.
//!
//! Invariants
//! - the services of the stack are always ready, so a layer calls its inner service without `poll_ready`.

use std::convert::Infallible;
use std::future::ready;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Response;
use tower::Service;

use super::body::Body;
use super::dispatch;
use super::layers::{
    address_limit, audit, authn, call, deadline, gate, grpc_web, open_calls, panics, plain_http,
    telemetry,
};
use super::stages::IncomingRequest;

/// Maximum size of the futures of one call, in bytes. `limits.calls_max` assumes a multiple of it.
const CALL_BYTES_MAX: usize = 20 << 10;

/// A service that wraps an inner service in an async function.
///
/// Its future is in a box. Otherwise the future of each layer would contain those of all layers inside it, which would
/// be copied once for each layer of each call, and whose types the compiler would compare once for each layer.
#[derive(Debug, Clone)]
pub(super) struct Layered<S, F> {
    inner: S,
    layer: F,
}

impl<In, S, F, Fut, R, E> Service<In> for Layered<S, F>
where
    S: Clone,
    F: Fn(In, S) -> Fut,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
{
    type Response = R;
    type Error = E;
    type Future = BoxFuture<'static, Result<R, E>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: In) -> Self::Future {
        Box::pin((self.layer)(request, self.inner.clone()))
    }
}

/// A service that passes a call to the inner service if a check turns it into the next stage. It has no future of its
/// own.
#[derive(Debug, Clone)]
pub(super) struct Checked<S, C> {
    inner: S,
    check: C,
}

impl<In, Out, S, C, R, E> Service<In> for Checked<S, C>
where
    S: Service<Out, Response = R, Error = E, Future = BoxFuture<'static, Result<R, E>>>,
    C: Fn(In) -> Result<Out, E>,
    R: Send + 'static,
    E: Send + 'static,
{
    type Response = R;
    type Error = E;
    type Future = BoxFuture<'static, Result<R, E>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: In) -> Self::Future {
        match (self.check)(request) {
            Ok(next) => self.inner.call(next),
            Err(refused) => Box::pin(ready(Err(refused))),
        }
    }
}

/// Builds a service from the inside out.
#[derive(Debug, Clone)]
pub(super) struct Stack<S> {
    service: S,
    /// Size of the futures of all layers.
    call_bytes: usize,
}

impl<S> Stack<S> {
    /// Starts with the innermost service.
    pub(super) fn new(inner: S) -> Self {
        Self { service: inner, call_bytes: 0 }
    }

    /// Wraps the stack in `layer(request, inner)`.
    pub(super) fn push<In, F, Fut>(self, layer: F) -> Stack<Layered<S, F>>
    where
        F: Fn(In, S) -> Fut,
    {
        Stack {
            service: Layered { inner: self.service, layer },
            call_bytes: self.call_bytes + size_of::<Fut>(),
        }
    }

    /// Wraps the stack in a check.
    pub(super) fn push_check<In, Out, E, C>(self, check: C) -> Stack<Checked<S, C>>
    where
        C: Fn(In) -> Result<Out, E>,
    {
        Stack { service: Checked { inner: self.service, check }, call_bytes: self.call_bytes }
    }

    /// Returns the service.
    pub(super) fn into_inner(self) -> S {
        debug_assert!(self.call_bytes <= CALL_BYTES_MAX, "a call takes {} bytes", self.call_bytes);
        self.service
    }
}

/// Returns the stack of one core, innermost layer first. The types are the input and output stages of each layer.
pub(super) fn stack()
-> impl Service<IncomingRequest, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send {
    Stack::new(())
        .push(dispatch::answer) //           AdmittedCall    -> response         the proxy, or the router on main
        .push_check(deadline::bound) //      AdmittedCall    -> AdmittedCall     reads grpc-timeout; refuses while draining
        .push(open_calls::reserve) //        GatedCall       -> AdmittedCall     counts its stream and bytes for its caller
        .push_check(gate::admit) //          IdentifiedCall  -> GatedCall        runs before the body is read
        .push_check(open_calls::count) //    IdentifiedCall  -> IdentifiedCall   counts the open calls of one caller
        .push(authn::identify) //            StartedCall     -> IdentifiedCall   finds the caller
        .push_check(address_limit::admit) // StartedCall     -> StartedCall      runs before any work that a flood could cause
        .push(panics::catch) //              StartedCall     -> StartedCall      inside audit: a panic is an outcome
        .push(audit::record) //              StartedCall     -> StartedCall      outside authn: counts refused credentials
        .push(telemetry::observe) //         StartedCall     -> StartedCall      outside every layer that refuses
        .push(call::begin) //                IncomingRequest -> StartedCall      sets id, time and method
        .push(grpc_web::translate) //        IncomingRequest -> IncomingRequest  outside audit, which needs the gRPC status
        .push(plain_http::split) //          IncomingRequest -> IncomingRequest  answers requests that are not gRPC
        .into_inner()
}

#[cfg(test)]
mod tests {
    use tower::util::BoxCloneService;
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[test]
    fn the_futures_of_a_call_stay_within_their_size_limit() {
        let too_large = |_: String, (): ()| async {
            let buffers = ([0_u8; CALL_BYTES_MAX / 2], [0_u8; CALL_BYTES_MAX / 2]);
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(buffers)
        };
        let refused = std::panic::catch_unwind(|| Stack::new(()).push(too_large).into_inner());
        assert!(refused.is_err());
        let _within = stack();
    }

    #[tokio::test]
    async fn the_layer_pushed_last_is_the_outermost() {
        let around = |name: &'static str| {
            move |request: String, inner: _| async move {
                let answer: Result<String, Infallible> =
                    ServiceExt::oneshot(inner, format!("{request}>{name}")).await;
                answer.map(|answer| format!("{answer}<{name}"))
            }
        };
        let inner = service_fn(async |request: String| Ok::<_, Infallible>(format!("[{request}]")));
        let stack = Stack::new(BoxCloneService::new(inner));
        let inside = Stack::new(BoxCloneService::new(stack.push(around("inside")).into_inner()));
        let outside = inside.push(around("outside")).into_inner();
        assert_eq!(
            outside.oneshot(String::new()).await.unwrap(),
            "[>outside>inside]<inside<outside"
        );
    }
}
