//! Ctrl-C in a command that waits.

pub(super) use super::super::connect::interruptible as until_interrupted;
