//! What a reader gets, on a temporary SQLite file.
