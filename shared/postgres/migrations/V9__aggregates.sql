-- What statistics need of each record, so that they are made of the ledger alone: it is written once and in the order of the
-- log, and has duplicates and blocked events too.
ALTER TABLE record_outcomes
    ADD COLUMN event_type text COLLATE "C",
    ADD COLUMN received_at timestamptz,
    -- A hash of the member whose different values are estimated, such as the user's id.
    ADD COLUMN subject bigint,
    -- The members that the event's type declares as dimensions and measures, as a JSON object. Not jsonb: that refuses U+0000
    -- and some numbers, and then a whole batch would fail.
    ADD COLUMN fields text;

-- The records that no aggregate counts yet: a row for each batch and log, written in the batch's own transaction and deleted in
-- the transaction that counts its records. So each record is counted once, in whatever order batches come.
CREATE TABLE unaggregated (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic     text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    incarnation integer NOT NULL,
    -- Exactly those of the batch that are new: `{[0,5),[6,9)}`.
    offsets   int8multirange NOT NULL,
    -- NULL for new records; else the outcome that a late score gave to them.
    scored    text COLLATE "C" CHECK (scored IN ('valid', 'fraud')),
    added_at  timestamptz NOT NULL
);

-- Records by tenant, dimension, value, type and quarter of an hour of received_at: every time zone's hours and days are made of
-- quarters. The dimension '' counts everything. A pair has both names, with a comma between, and both values.
CREATE TABLE aggregates (
    tenant        text COLLATE "C" NOT NULL,
    dimension     text COLLATE "C" NOT NULL,
    value         text COLLATE "C" NOT NULL,
    quarter       timestamptz NOT NULL,
    event_type    text COLLATE "C" NOT NULL,
    second_value  text COLLATE "C" NOT NULL,
    valid         bigint NOT NULL,
    fraud         bigint NOT NULL,
    -- Stored without a score; becomes valid or fraud when the score comes.
    unscored      bigint NOT NULL,
    duplicate     bigint NOT NULL,
    blocked       bigint NOT NULL,
    dead_lettered bigint NOT NULL,
    -- Different subjects of stored events: an HLL sketch in the format of Apache DataSketches. NULL if there are none.
    subjects      bytea,
    PRIMARY KEY (tenant, dimension, value, quarter, event_type, second_value)
);

-- The sums of the measures of stored events that have a score.
CREATE TABLE aggregate_measures (
    tenant       text COLLATE "C" NOT NULL,
    dimension    text COLLATE "C" NOT NULL,
    value        text COLLATE "C" NOT NULL,
    quarter      timestamptz NOT NULL,
    event_type   text COLLATE "C" NOT NULL,
    second_value text COLLATE "C" NOT NULL,
    measure      text COLLATE "C" NOT NULL,
    status       text COLLATE "C" NOT NULL CHECK (status IN ('valid', 'fraud')),
    events       bigint NOT NULL,
    sum          numeric NOT NULL,
    min          numeric NOT NULL,
    max          numeric NOT NULL,
    PRIMARY KEY (tenant, dimension, value, quarter, event_type, second_value, measure, status)
);

-- Where the logs ended at an instant. Once every record below is counted, everything that came before the instant is.
CREATE TABLE aggregation_marks (
    at         timestamptz NOT NULL,
    topic      text COLLATE "C" NOT NULL,
    partition  integer NOT NULL,
    end_offset bigint NOT NULL,
    PRIMARY KEY (at, topic, partition)
);

-- One row: up to when the aggregates are complete.
CREATE TABLE aggregation_progress (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    complete_until timestamptz NOT NULL
);
