-- The trace that a record belongs to (W3C Trace Context), as its 16 bytes: psql shows and takes them as '\x' and the 32 digits
-- of every other tool. There is no index: a trace is looked up by the event, not the event by its trace.
ALTER TABLE events ADD COLUMN trace_id bytea CHECK (octet_length(trace_id) = 16);
ALTER TABLE record_outcomes ADD COLUMN trace_id bytea CHECK (octet_length(trace_id) = 16);
ALTER TABLE reprocessed_outcomes ADD COLUMN trace_id bytea CHECK (octet_length(trace_id) = 16);
