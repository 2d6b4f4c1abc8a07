//! The layers, one a file. Their order, with a reason a line, stands in [`super::listen`].
//!
//! They are plain functions that `server::answer` calls one after the other: nothing is boxed, nothing is hidden in a
//! type, and unary calls, streams and proxied calls pass the same ones. They touch memory only.

pub mod address_limit;
pub mod audit;
pub mod authn;
pub mod cross;
pub mod gate;
pub mod limits;
pub mod open_calls;
pub mod telemetry;
