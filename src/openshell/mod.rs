//! The typed client of one gateway: what we ask of any gateway, whatever its generation.
