//! Leases of operations.
