//! Connections that we open: every address is checked when it is connected to.
