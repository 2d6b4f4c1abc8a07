//! What the audit log says was done.
//!
//! Invariants
//! - an action is `<resource_type>.<verb>`, with one dot;
//! - the build makes every action, from the options of the rpcs and the list in `build/actions.rs`: there is no other way
//!   to make one.

use std::fmt;

/// What the audit log says was done: a verb on a type of resource.
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
