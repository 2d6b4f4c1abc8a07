-- SQLite finds the events without a number by the unique index of the sequence, in the order of their ids: it stores
-- nulls, and each entry has the id of its row. So an event writes one index less.
DROP INDEX events_unnumbered;
