-- Nothing changes: only SQLite does not use the index events_unnumbered.
SELECT 1;
