-- What events are searched by. Each term stands for the event's tenant, a member and its value: the type, the user, and each
-- dimension that the type declares (event::term). One index serves them all, so a new dimension needs none of its own. NULL for
-- events from before this migration: a search for a value does not find them.
ALTER TABLE events ADD COLUMN terms bigint[];
CREATE INDEX events_by_term ON events USING gin (terms);

-- All events of a tenant, newest first. The expression is the tenant, but no statement of the processor can use an index on
-- it: in a partition that has no statistics yet, as every day's first minute, the planner could take it for the probe by key,
-- and read the tenant's whole day.
CREATE INDEX events_by_time ON events ((tenant || ''), received_at);
CREATE INDEX events_fraud_by_time ON events ((tenant || ''), received_at) WHERE status = 'fraud';
