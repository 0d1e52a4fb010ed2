-- No query of any function uses them, and together they cost a third of the time of inserting an event
-- (docs/performance.md). Who needs such an index for reports makes it on a copy, or on a replica's own tables.
DROP INDEX events_by_type;
DROP INDEX events_by_address;
