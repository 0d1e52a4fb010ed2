-- Events that got their score after they were stored, and whose late outcome is not known to be published yet. The
-- outcome itself is made of the event's row. An entry whose event has expired is never published.
CREATE TABLE late_scores (
    received_day     date NOT NULL,
    tenant           text COLLATE "C" NOT NULL,
    event_id         text COLLATE "C" NOT NULL,
    -- Where the record stands that stored the event.
    topic            text COLLATE "C" NOT NULL,
    partition        integer NOT NULL,
    record_offset    bigint NOT NULL,
    PRIMARY KEY (received_day, tenant, event_id)
);

-- The record that stored an unscored event, which may stand elsewhere than its origin. Holds no others, so it grows only
-- while the scorer is down.
CREATE INDEX record_outcomes_unscored ON record_outcomes (tenant, event_id)
    WHERE outcome = 'valid' AND risk_score IS NULL;
