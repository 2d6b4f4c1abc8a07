//! Process-wide state of single modules, by type.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;

/// At most one value per type.
#[derive(Default)]
pub struct Parts(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("count", &self.0.len()).finish_non_exhaustive()
    }
}

impl Parts {
    /// Adds a part. Replaces an earlier one of the same type.
    #[must_use]
    pub fn with<T: Any + Send + Sync>(mut self, part: T) -> Self {
        self.0.insert(TypeId::of::<T>(), Box::new(part));
        self
    }

    /// Returns the part of a type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_looked_up_by_its_type() {
        let parts = Parts::default().with(1_u8).with("text");
        assert_eq!((parts.get::<u8>(), parts.get::<&str>()), (Some(&1), Some(&"text")));
        assert_eq!(parts.get::<u16>(), None);
    }
}
