//! The list of services.
