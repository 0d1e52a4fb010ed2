-- How far each run of the replayer is, so that a run that was stopped goes on where it was.
CREATE TABLE replay_progress (
    run        text COLLATE "C" PRIMARY KEY,
    -- What was asked for, as JSON. A run goes on only with the same request.
    request    text NOT NULL,
    -- The invocation that works on it; one that finds another name here has been replaced.
    holder     text NOT NULL,
    -- Partition by partition, the first offset that is not dealt with.
    partitions integer[] NOT NULL,
    offsets    bigint[] NOT NULL,
    -- What was counted so far, as JSON.
    counts     text NOT NULL,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- How records end under another version of the rules: one row per version and record, written once, beside the ledger
-- and never in place of it.
CREATE TABLE reprocessed_outcomes (
    version          text COLLATE "C" NOT NULL,
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
    reprocessed_at   timestamptz NOT NULL,
    PRIMARY KEY (version, topic, partition, record_offset)
);
