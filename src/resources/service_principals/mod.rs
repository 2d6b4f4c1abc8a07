//! API keys for programs.
