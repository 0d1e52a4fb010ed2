-- Text keys compare byte by byte (COLLATE "C"): faster, and the same on every machine.

-- One row per stored event. Partitioned by the UTC day of received_at; maintainer makes the days.
CREATE TABLE events (
    received_day     date NOT NULL,
    tenant           text COLLATE "C" NOT NULL,
    event_id         text COLLATE "C" NOT NULL,
    event_type       text COLLATE "C" NOT NULL,
    schema_version   bigint NOT NULL,
    status           text COLLATE "C" NOT NULL CHECK (status IN ('valid', 'fraud')),
    received_at      timestamptz NOT NULL,
    occurred_at      timestamptz,
    ip_address       inet,
    user_agent       text,
    user_id          text,
    payload_hash     bytea NOT NULL,
    -- The client's JSON, byte for byte. Not jsonb: that would parse it once more, at half the throughput.
    payload          text NOT NULL,
    -- NULL until scored.
    risk_score       smallint,
    risk_reasons     text[],
    rules_version    text,
    scored_at        timestamptz,
    origin_topic     text COLLATE "C" NOT NULL,
    origin_partition integer NOT NULL,
    origin_offset    bigint NOT NULL,
    stored_at        timestamptz NOT NULL,
    PRIMARY KEY (tenant, event_id, received_day)
) PARTITION BY RANGE (received_day);

-- Takes events of days that have no partition, so that a late maintainer or an odd date holds nothing up.
CREATE TABLE events_default PARTITION OF events DEFAULT;

-- No index but the primary key begins with tenant or event_id: in a partition that has no statistics yet, as every
-- day's first minute, the planner could take another one for the probe by key, and read the tenant's whole day.
CREATE INDEX events_by_type ON events (event_type, received_at);
-- Events of an address, and the busiest addresses of a time span, from the index alone.
CREATE INDEX events_by_address ON events (ip_address, received_at);
-- Holds only what waits for its score, so it is next to empty.
CREATE INDEX events_unscored ON events (received_at) WHERE risk_score IS NULL;

-- How each Kafka record ended: one row per record, written once.
CREATE TABLE record_outcomes (
    topic            text COLLATE "C" NOT NULL,
    partition        integer NOT NULL,
    record_offset    bigint NOT NULL,
    origin_topic     text COLLATE "C" NOT NULL,
    origin_partition integer NOT NULL,
    origin_offset    bigint NOT NULL,
    -- NULL if the record is no event.
    tenant           text COLLATE "C",
    event_id         text COLLATE "C",
    outcome          text COLLATE "C" NOT NULL
        CHECK (outcome IN ('valid', 'fraud', 'duplicate', 'blocked', 'dead_lettered')),
    reason           text NOT NULL,
    risk_score       smallint,
    risk_reasons     text[],
    rules_version    text,
    recorded_at      timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, record_offset)
);

-- The records of an event that are not its row in events.
CREATE INDEX record_outcomes_by_event ON record_outcomes (tenant, event_id) WHERE outcome NOT IN ('valid', 'fraud');

-- Stored events per hour of received_at. Outlives the events.
CREATE TABLE event_counts_hourly (
    hour       timestamptz NOT NULL,
    tenant     text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    status     text COLLATE "C" NOT NULL,
    events     bigint NOT NULL,
    PRIMARY KEY (hour, tenant, event_type, status)
);

-- For each Kafka partition, the offsets that record_outcomes accounts for: floor_offset <= offset < next_offset.
CREATE TABLE checkpoints (
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    floor_offset bigint NOT NULL,
    next_offset  bigint NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- Who owns an event id, for DEDUP_STORE=postgres.
CREATE TABLE claims (
    tenant          text COLLATE "C" NOT NULL,
    event_id        text COLLATE "C" NOT NULL,
    owner_topic     text COLLATE "C" NOT NULL,
    owner_partition integer NOT NULL,
    owner_offset    bigint NOT NULL,
    payload_hash    bytea NOT NULL,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant, event_id)
);

CREATE INDEX claims_by_expiry ON claims (expires_at);
