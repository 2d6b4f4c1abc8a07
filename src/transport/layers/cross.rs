//! From a core to main: runs the router's future as a task on the multi-thread runtime and awaits it.
//!
//! The last layer before the router and not before the proxy. The task is aborted when the caller goes; a write
//! survives, because it is spawned again. A panic there is a fault of ours.

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::error::Error;

/// Runs `future` on main.
pub async fn run<T: Send + 'static>(
    main: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let task = main.spawn(future.instrument(tracing::Span::current()));
    AbortOnDropHandle::new(task).await.map_err(Error::internal)
}
