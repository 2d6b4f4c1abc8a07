//! Refused calls, recorded.
