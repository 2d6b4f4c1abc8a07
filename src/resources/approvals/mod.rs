//! Rules applied to changes of policies: the gate that every change passes.
//!
//! Invariants
//! - a call that can change a policy is judged in the transaction that stores its write intent, by what is stored then
//!   (T13);
//! - calls to which no rule applies do not exclude each other, and none of them waits for a gateway here.

pub mod gate;
