//! Last reported state of each sandbox: its id, its phase, and the newest line of its log.
//!
//! Followers compare it with what gateways report. A creation through Shoreguard stores the position of its sandbox in
//! the transaction of its event, and a deletion removes it, so that a follower does not report them again.

pub mod store;
