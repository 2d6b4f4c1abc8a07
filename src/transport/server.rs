//! The layer stack and the listeners.
