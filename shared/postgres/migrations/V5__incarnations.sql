-- Positions come back: a topic is made again, a log loses its tail, a cluster is replaced. A record is known by its position
-- and by a digest of what the broker fixed there; another record at a known position begins a new incarnation of the log.
-- What was written before has no digest and is of incarnation 0.
ALTER TABLE record_outcomes
    ADD COLUMN incarnation integer NOT NULL DEFAULT 0,
    ADD COLUMN digest bytea,
    ADD COLUMN origin_digest bytea,
    DROP CONSTRAINT record_outcomes_pkey,
    -- The incarnation comes last, so that a position is still found by the front of the key.
    ADD PRIMARY KEY (topic, partition, record_offset, incarnation);

ALTER TABLE reprocessed_outcomes
    ADD COLUMN incarnation integer NOT NULL DEFAULT 0,
    ADD COLUMN digest bytea,
    ADD COLUMN origin_digest bytea,
    DROP CONSTRAINT reprocessed_outcomes_pkey,
    ADD PRIMARY KEY (version, topic, partition, record_offset, incarnation);

ALTER TABLE events ADD COLUMN origin_digest bytea;
ALTER TABLE claims ADD COLUMN owner_digest bytea;
ALTER TABLE late_scores ADD COLUMN incarnation integer NOT NULL DEFAULT 0;

-- The present incarnation, and the span as it was before the last batch: that batch may turn out to be of another one.
ALTER TABLE checkpoints
    ADD COLUMN incarnation integer NOT NULL DEFAULT 0,
    ADD COLUMN floor_before bigint,
    ADD COLUMN next_before bigint;

-- The spans of the incarnations before the present one.
CREATE TABLE ended_logs (
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    incarnation  integer NOT NULL,
    floor_offset bigint NOT NULL,
    next_offset  bigint NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, incarnation)
);
