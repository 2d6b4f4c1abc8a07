//! Annotations that Shoreguard adds to sandboxes and policy revisions on a gateway, so that the gateway's own records
//! name the actor.
//!
//! Invariant: keys under [`PREFIX`] are reserved; a request in which a caller sends one is rejected (T19).

/// Prefix of the reserved keys.
pub const PREFIX: &str = "shoreguard/";

/// The actor, spelled as in the audit log. Always the same for an actor, so that an update without changes creates no
/// revision.
pub const ACTOR: &str = "shoreguard/actor";

/// The operation that created a sandbox.
pub const OPERATION: &str = "shoreguard/operation";

/// The request id with which a stock client created a sandbox. Replaces [`OPERATION`]: a repeated request must be the
/// same message, but each repeat is a separate operation.
pub const REQUEST: &str = "shoreguard/request";

/// The review whose approved change created a policy revision. With [`ACTOR`], it is the same at each attempt, so that a
/// repeated update creates no second revision.
pub const ROUND: &str = "shoreguard/round";

/// Whether a key is reserved. Ignores case and leading whitespace, since people read these records too.
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    let start = key.trim_start().as_bytes().get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shoreguard_prefix_is_recognized_in_any_case_and_spacing() {
        for key in [
            ACTOR,
            OPERATION,
            REQUEST,
            ROUND,
            PREFIX,
            "Shoreguard/Actor",
            " shoreguard/actor",
            "SHOREGUARD/x",
        ] {
            assert!(is_reserved(key), "{key}");
        }
        for key in ["", "shoreguard", "team/shoreguard/actor", "actor", "shoreguarď/x"] {
            assert!(!is_reserved(key), "{key}");
        }
    }
}
