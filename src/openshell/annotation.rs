//! What we write into the annotations that a gateway keeps with a sandbox and with a revision of its policy, so that the
//! gateway's own record names the person.
//!
//! Invariant: keys under [`PREFIX`] are ours; whoever else sends one is refused (T19).

/// What every key of ours begins with.
pub const PREFIX: &str = "shoreguard/";

/// Who has done it, as the audit log spells it. The same for the same actor, so that an update that changes nothing
/// makes no revision.
pub const ACTOR: &str = "shoreguard/actor";

/// The operation that has made a sandbox.
pub const OPERATION: &str = "shoreguard/operation";

/// The request id that a stock client gave the creation of a sandbox, instead of [`OPERATION`]: a repeat must be the same
/// message, and each repeat is an operation of its own.
pub const REQUEST: &str = "shoreguard/request";

/// Whether a key is ours, however its letters are written: people read these records too.
#[must_use]
pub fn is_ours(key: &str) -> bool {
    let start = key.trim_start().as_bytes().get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_ours_however_it_is_written() {
        for key in [
            ACTOR,
            OPERATION,
            REQUEST,
            PREFIX,
            "Shoreguard/Actor",
            " shoreguard/actor",
            "SHOREGUARD/x",
        ] {
            assert!(is_ours(key), "{key}");
        }
        for key in ["", "shoreguard", "team/shoreguard/actor", "actor", "shoreguarď/x"] {
            assert!(!is_ours(key), "{key}");
        }
    }
}
