//! Tokens that are good for one gateway: for stock clients, which can't say which gateway they mean.
//!
//! Invariants
//! - a token dies with what it was made from (key, password, session) and with its gateway, whose id never comes again
//!   (T14);
//! - of one key and gateway no more than 24 are alive, without a table: a token says the hour that it was made in, and
//!   asking again in that hour gives the same one;
//! - who has no role on a gateway and who names one that does not exist get the same refusal, by the same work (T15).

pub mod domain;
