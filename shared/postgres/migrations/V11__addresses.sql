-- Where a record came from: the part of the client's address that limits and blocks apply to, an IPv4 address or a /64 of IPv6.
-- NULL if that is not known, and for records from before this migration.
ALTER TABLE record_outcomes ADD COLUMN address inet;

-- The addresses with the most records, by tenant and hour of received_at in UTC: sketches of frequent items in the format of
-- Apache DataSketches, one for each count, because there may be any number of addresses.
CREATE TABLE aggregate_addresses (
    tenant  text COLLATE "C" NOT NULL,
    hour    timestamptz NOT NULL,
    records bytea NOT NULL,
    events  bytea NOT NULL,
    fraud   bytea NOT NULL,
    blocked bytea NOT NULL,
    PRIMARY KEY (tenant, hour)
);
