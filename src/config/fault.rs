//! What is wrong with a configuration: every fault, each with the path of its key.

use std::fmt;
use std::ops::RangeInclusive;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key's path, as `section.key`; the variable, flag or file where there is no such key.
    pub key: String,
    /// What is wrong with it, with the limit.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.key, self.why)
    }
}

/// Everything that is wrong, in the order in which it was found; shown one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Nothing is wrong yet.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// One thing is wrong.
    pub(super) fn one(key: impl Into<String>, why: impl Into<String>) -> Self {
        let mut faults = Self::none();
        faults.add(key, why);
        faults
    }

    /// One more thing is wrong.
    pub(super) fn add(&mut self, key: impl Into<String>, why: impl Into<String>) {
        self.0.push(Fault { key: key.into(), why: why.into() });
    }

    /// A number must be within its limits.
    pub(super) fn range<N: Copy + PartialOrd + fmt::Display>(
        &mut self,
        key: &str,
        value: N,
        limits: &RangeInclusive<N>,
    ) {
        if !limits.contains(&value) {
            self.add(key, format!("must be {}..={}, got {value}", limits.start(), limits.end()));
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each fault.
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
