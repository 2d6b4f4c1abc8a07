//! Actions of the audit log.
//!
//! Invariants
//! - an action is `<resource_type>.<verb>`, with one dot;
//! - the build generates all actions from the options of the RPCs and the list in `build/actions.rs`; no other code can
//!   create one.

use std::fmt;

/// Action of an audit entry: a verb on a type of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Action {
    resource_type: &'static str,
    name: &'static str,
}

impl Action {
    /// Returns the type of the resource: `gateway`.
    #[must_use]
    pub fn resource_type(self) -> &'static str {
        self.resource_type
    }

    /// Returns the name: `gateway.update`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.name
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

include!(concat!(env!("OUT_DIR"), "/actions.rs"));
