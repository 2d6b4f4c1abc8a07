//! Faults of a configuration, each with the path of its key.

use std::fmt;
use std::ops::RangeInclusive;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Path of the key, as `section.key`; the variable, flag or file if no key applies.
    pub key: String,
    /// What is wrong with the value, and the limit.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.key, self.why)
    }
}

/// All faults, in the order in which they were found; displayed one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Returns an empty list.
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns a list with one fault.
    pub(super) fn one(key: impl Into<String>, why: impl Into<String>) -> Self {
        let mut faults = Self::new();
        faults.add(key, why);
        faults
    }

    /// Adds a fault.
    pub(super) fn add(&mut self, key: impl Into<String>, why: impl Into<String>) {
        self.0.push(Fault { key: key.into(), why: why.into() });
    }

    /// Adds a fault if a number is out of range.
    pub(super) fn check_range<N: Copy + PartialOrd + fmt::Display>(
        &mut self,
        key: &str,
        value: N,
        limits: &RangeInclusive<N>,
    ) {
        if !limits.contains(&value) {
            self.add(key, format!("must be {} to {}, got {value}", limits.start(), limits.end()));
        }
    }

    /// Returns whether there is no fault.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the faults.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
