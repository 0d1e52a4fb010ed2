-- What ADR 0038 measures; statistics-storage.sh runs it, after the migrations. All tables get the same batches, in turn, so
-- that whatever else the machine does slows all of them down.

-- Tables like the ledger, and what each has instead of the column fields.
CREATE TABLE variants (name text PRIMARY KEY, place int NOT NULL, seconds float8 NOT NULL DEFAULT 0, wal numeric NOT NULL DEFAULT 0);
INSERT INTO variants (name, place) VALUES
    ('before', 1), ('nothing', 2), ('as_text', 3), ('as_jsonb', 4), ('jsonb_gin', 5), ('columns', 6), ('columns_index', 7),
    ('columns_days', 8);

CREATE TABLE before (LIKE record_outcomes INCLUDING ALL);
ALTER TABLE before DROP event_type, DROP received_at, DROP subject, DROP fields;
CREATE TABLE nothing (LIKE record_outcomes INCLUDING ALL);
ALTER TABLE nothing DROP fields;
CREATE TABLE as_text (LIKE record_outcomes INCLUDING ALL);
CREATE TABLE as_jsonb (LIKE nothing INCLUDING ALL);
ALTER TABLE as_jsonb ADD fields jsonb;
CREATE TABLE jsonb_gin (LIKE as_jsonb INCLUDING ALL);
CREATE INDEX ON jsonb_gin USING gin (fields jsonb_path_ops);
CREATE TABLE columns (LIKE nothing INCLUDING ALL);
ALTER TABLE columns
    ADD campaign_id text COLLATE "C", ADD geo_country text COLLATE "C", ADD device_type text COLLATE "C",
    ADD currency text COLLATE "C", ADD amount numeric;
CREATE TABLE columns_index (LIKE columns INCLUDING ALL);
CREATE INDEX ON columns_index (tenant, campaign_id, received_at);
-- A key of a partitioned table must have received_at, so this one would let a record in twice.
CREATE TABLE columns_days (LIKE columns INCLUDING CONSTRAINTS INCLUDING DEFAULTS) PARTITION BY RANGE (received_at);
ALTER TABLE columns_days ADD PRIMARY KEY (topic, partition, record_offset, incarnation, received_at);
CREATE INDEX ON columns_days (tenant, event_id) WHERE outcome NOT IN ('valid', 'fraud');
CREATE TABLE day_1 PARTITION OF columns_days FOR VALUES FROM ('2026-11-01') TO ('2026-11-02');
CREATE TABLE day_2 PARTITION OF columns_days FOR VALUES FROM ('2026-11-02') TO ('2026-11-03');

-- Events `first` to `last` of `total`, which come evenly within two days: 5,000 campaigns, of which the busiest has 6 % of the
-- events, 30 countries, 3 devices and 200,000 users.
CREATE FUNCTION made(first bigint, last bigint, total bigint) RETURNS TABLE (
    n bigint, event_type text, outcome text, received_at timestamptz, subject bigint,
    campaign_id text, geo_country text, device_type text, currency text, amount text, fields text
) LANGUAGE sql AS $$
    WITH chosen AS MATERIALIZED (
        SELECT n, random() AS type, random() AS status, 'campaign-' || floor(5000 * random() ^ 3) AS campaign,
               chr(65 + floor(5 * random())::int) || chr(65 + floor(6 * random())::int) AS country,
               (ARRAY['mobile', 'desktop', 'tablet'])[1 + floor(3 * random())] AS device,
               (ARRAY['EUR', 'USD', 'GBP'])[1 + floor(3 * random())] AS currency,
               round((500 * random())::numeric, 2)::text AS amount,
               hashint8extended(floor(200000 * random())::int8, 0) AS subject
        FROM generate_series(first, last) AS n
    )
    SELECT n, t.type, CASE WHEN status < 0.94 THEN 'valid' WHEN status < 0.97 THEN 'fraud' ELSE 'duplicate' END,
           '2026-11-01'::timestamptz + interval '2 days' * ((n - 1)::float8 / total), subject,
           CASE WHEN t.ad THEN campaign END, CASE WHEN t.ad THEN country END, CASE WHEN t.ad THEN device END,
           CASE WHEN NOT t.ad THEN c.currency END, CASE WHEN NOT t.ad THEN amount END,
           CASE WHEN t.ad
               THEN format('{"campaign_id":"%s","geo_country":"%s","device_type":"%s"}', campaign, country, device)
               ELSE format('{"currency":"%s","amount":%s}', c.currency, amount) END
    FROM chosen c
    CROSS JOIN LATERAL (
        SELECT CASE WHEN type < 0.6 THEN 'impression' WHEN type < 0.9 THEN 'click' ELSE 'transaction' END, type < 0.9
    ) AS t (type, ad)
$$;

-- The cells that an event counts in, as types/*/type.yaml has them.
CREATE FUNCTION cells(campaign_id text, geo_country text, device_type text, currency text)
RETURNS TABLE (dimension text, value text, second_value text) LANGUAGE sql IMMUTABLE AS $$
    SELECT * FROM (VALUES
        ('', '', ''), ('campaign_id', campaign_id, ''), ('geo_country', geo_country, ''), ('device_type', device_type, ''),
        ('currency', currency, ''), ('campaign_id,geo_country', campaign_id, geo_country),
        ('campaign_id,device_type', campaign_id, device_type)
    ) AS c WHERE num_nulls(c.column2, c.column3) = 0
$$;

-- A sketch of so many subjects: a list of their hashes, and from 385 on 4,096 registers of half a byte.
CREATE FUNCTION sketch_bytes(subjects bigint) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN subjects > 384 THEN 2088 ELSE 12 + 4 * subjects END
$$;

-- The arrays of a batch by column, with the types that the processor sends.
CREATE TABLE parameters (name text PRIMARY KEY, number int NOT NULL, type text NOT NULL);
INSERT INTO parameters VALUES
    ('topic', 1, 'text'), ('partition', 2, 'int4'), ('record_offset', 3, 'int8'), ('origin_topic', 1, 'text'),
    ('origin_partition', 2, 'int4'), ('origin_offset', 3, 'int8'), ('tenant', 4, 'text'), ('event_id', 5, 'text'),
    ('outcome', 6, 'text'), ('reason', 7, 'text'), ('risk_score', 8, 'int2'), ('risk_reasons', 9, 'text'),
    ('rules_version', 10, 'text'), ('incarnation', 11, 'int4'), ('digest', 12, 'bytea'), ('origin_digest', 12, 'bytea'),
    ('recorded_at', 13, 'timestamptz'), ('trace_id', 14, 'bytea'), ('event_type', 15, 'text'),
    ('received_at', 16, 'timestamptz'), ('subject', 17, 'int8'), ('fields', 18, 'text'), ('campaign_id', 19, 'text'),
    ('geo_country', 20, 'text'), ('device_type', 21, 'text'), ('currency', 22, 'text'), ('amount', 23, 'text');

\ir insert_into.sql

CREATE PROCEDURE fill(total bigint) LANGUAGE plpgsql AS $$
DECLARE
    statements text[] := (SELECT array_agg(insert_into(name) ORDER BY place) FROM variants);
    spent float8[] := array_fill(0::float8, ARRAY[cardinality(statements)]);
    logged numeric[] := array_fill(0::numeric, ARRAY[cardinality(statements)]);
    b record;
    v int;
    started timestamptz;
    log_at pg_lsn;
BEGIN
    FOR batch IN 0 .. total / 500 - 1 LOOP
        SELECT array_agg('raw-events'::text) AS topic, array_agg((batch % 6)::int4) AS partition,
               array_agg(batch / 6 * 500 + n) AS record_offset, array_agg('acme'::text) AS tenant,
               array_agg(gen_random_uuid()::text) AS event_id, array_agg(outcome) AS outcome, array_agg(''::text) AS reason,
               array_agg(CASE outcome WHEN 'fraud' THEN 90 WHEN 'valid' THEN 10 END::int2) AS risk_score,
               array_agg(CASE outcome WHEN 'fraud' THEN 'private-range' END::text) AS risk_reasons,
               array_agg(CASE WHEN outcome <> 'duplicate' THEN '1' END::text) AS rules_version,
               array_agg(0::int4) AS incarnation, array_agg(uuid_send(gen_random_uuid())) AS digest,
               array_agg(now()) AS recorded_at, array_agg(uuid_send(gen_random_uuid())) AS trace_id,
               array_agg(event_type) AS event_type, array_agg(received_at) AS received_at, array_agg(subject) AS subject,
               array_agg(fields) AS fields, array_agg(campaign_id) AS campaign_id, array_agg(geo_country) AS geo_country,
               array_agg(device_type) AS device_type, array_agg(currency) AS currency, array_agg(amount) AS amount
        INTO b FROM made(batch * 500 + 1, batch * 500 + 500, total);
        FOR turn IN 1 .. cardinality(statements) LOOP
            -- Another one is the first each time.
            v := (batch + turn) % cardinality(statements) + 1;
            log_at := pg_current_wal_insert_lsn();
            started := clock_timestamp();
            EXECUTE statements[v] USING
                b.topic, b.partition, b.record_offset, b.tenant, b.event_id, b.outcome, b.reason, b.risk_score,
                b.risk_reasons, b.rules_version, b.incarnation, b.digest, b.recorded_at, b.trace_id, b.event_type,
                b.received_at, b.subject, b.fields, b.campaign_id, b.geo_country, b.device_type, b.currency, b.amount;
            COMMIT;
            spent[v] := spent[v] + extract(epoch FROM clock_timestamp() - started);
            logged[v] := logged[v] + (pg_current_wal_insert_lsn() - log_at);
        END LOOP;
    END LOOP;
    UPDATE variants SET seconds = spent[place], wal = logged[place];
END
$$;

SELECT setseed(0.38) \g /dev/null
CALL fill(:rows);
VACUUM ANALYZE;

\echo Inserting, in batches of 500, and what is stored, in bytes per row
SELECT name, (:rows / seconds)::int AS rows_per_second, round((seconds / nothing)::numeric, 2) AS time_to_nothing,
       round(size.total / :rows) AS bytes, round(size.indexes / :rows) AS of_them_indexes, round(wal / :rows) AS wal
FROM variants
CROSS JOIN (SELECT seconds AS nothing FROM variants WHERE name = 'nothing') AS n
CROSS JOIN LATERAL (
    SELECT sum(pg_total_relation_size(oid)) AS total, sum(pg_indexes_size(oid)) AS indexes
    FROM pg_class LEFT JOIN pg_inherits ON inhrelid = oid WHERE name::regclass IN (oid, inhparent)
) AS size
ORDER BY place;
-- Nothing asks them, and their room is needed.
DROP TABLE before, nothing;

INSERT INTO aggregates
SELECT tenant, dimension, value, date_bin('15 min', received_at, 'epoch') AS quarter, event_type, second_value,
       count(*) FILTER (WHERE outcome = 'valid'), count(*) FILTER (WHERE outcome = 'fraud'), 0,
       count(*) FILTER (WHERE outcome = 'duplicate'), 0, 0,
       -- Bytes that do not compress.
       substring(noise FOR sketch_bytes(count(DISTINCT subject) FILTER (WHERE outcome <> 'duplicate')))
FROM columns
CROSS JOIN LATERAL cells(campaign_id, geo_country, device_type, currency)
CROSS JOIN (SELECT string_agg(uuid_send(gen_random_uuid()), '') AS noise FROM generate_series(1, 131)) AS noise
GROUP BY tenant, dimension, value, quarter, event_type, second_value, noise;
INSERT INTO aggregate_measures
SELECT tenant, dimension, value, date_bin('15 min', received_at, 'epoch') AS quarter, event_type, second_value, 'amount',
       outcome, count(*), sum(amount), min(amount), max(amount)
FROM columns CROSS JOIN LATERAL cells(campaign_id, geo_country, device_type, currency)
WHERE amount IS NOT NULL AND outcome <> 'duplicate'
GROUP BY tenant, dimension, value, quarter, event_type, second_value, outcome;
VACUUM ANALYZE aggregates, aggregate_measures;

\echo Cells of these rows
SELECT relname AS name, round(reltuples::numeric / :rows, 2) AS per_row,
       (pg_total_relation_size(oid) / reltuples)::int AS bytes, round(pg_total_relation_size(oid)::numeric / :rows) AS bytes_per_row
FROM pg_class WHERE relname IN ('aggregates', 'aggregate_measures') ORDER BY 1 DESC;

-- The sizes of sketches are the largest possible: as if every event were another user's.
\echo Cells of one quarter with as many events as if 100 million came each day
SELECT coalesce(dimension, 'all') AS dimension, count(*) AS cells, round(sum(events) / count(*), 1) AS events_per_cell,
       round(avg(sketch_bytes(events))) AS sketch_bytes
FROM (
    SELECT dimension, count(*) AS events
    FROM made(1, 100000000 / 96, 100000000 / 96) CROSS JOIN LATERAL cells(campaign_id, geo_country, device_type, currency)
    GROUP BY event_type, dimension, value, second_value
) AS cells
GROUP BY ROLLUP (dimension) ORDER BY 2;

-- Counts by type of one campaign over 24 hours.
CREATE TABLE questions (name text PRIMARY KEY, source text NOT NULL);
INSERT INTO questions
SELECT 'cells', 'SELECT event_type, sum(valid) AS valid, sum(fraud) AS fraud, sum(duplicate) AS duplicate FROM aggregates
    WHERE tenant = ''acme'' AND dimension = ''campaign_id'' AND value = $1 AND quarter >= ''2026-11-02'' AND quarter < ''2026-11-03''
    GROUP BY event_type'
UNION ALL
SELECT name, format('SELECT event_type, count(*) FILTER (WHERE outcome = ''valid'') AS valid,
        count(*) FILTER (WHERE outcome = ''fraud'') AS fraud, count(*) FILTER (WHERE outcome = ''duplicate'') AS duplicate
    FROM %I WHERE tenant = ''acme'' AND %s AND received_at >= ''2026-11-02'' AND received_at < ''2026-11-03'' GROUP BY event_type',
    name, condition)
FROM (VALUES
    ('as_text', 'fields::json ->> ''campaign_id'' = $1'), ('as_jsonb', 'fields ->> ''campaign_id'' = $1'),
    ('jsonb_gin', 'fields @> jsonb_build_object(''campaign_id'', $1)'), ('columns', 'campaign_id = $1'),
    ('columns_index', 'campaign_id = $1'), ('columns_days', 'campaign_id = $1')
) AS conditions (name, condition);
CREATE TABLE answers (name text NOT NULL, campaign text NOT NULL, round int NOT NULL, ms float8 NOT NULL, answer text NOT NULL);

CREATE PROCEDURE ask() LANGUAGE plpgsql AS $$
DECLARE
    q record;
    started timestamptz;
    answer text;
BEGIN
    -- The first round warms up.
    FOR round IN 0 .. 5 LOOP
        FOR q IN
            SELECT name, campaign, format('SELECT coalesce(string_agg(a::text, '' '' ORDER BY a), ''none'') FROM (%s) AS a', source)
                       AS statement
            FROM questions CROSS JOIN (VALUES ('campaign-0'), ('campaign-2500')) AS campaigns (campaign)
        LOOP
            started := clock_timestamp();
            EXECUTE q.statement INTO answer USING q.campaign;
            INSERT INTO answers SELECT q.name, q.campaign, round, 1000 * extract(epoch FROM clock_timestamp() - started), answer;
        END LOOP;
    END LOOP;
    IF (SELECT count(DISTINCT (a.campaign, a.answer)) FROM answers a) <> 2 THEN
        RAISE 'the answers differ';
    END IF;
END
$$;
CALL ask();

\echo Counts by type of one campaign over 24 hours: the median of five, in milliseconds
SELECT name, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE campaign = 'campaign-0')::numeric, 2) AS busiest,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE campaign <> 'campaign-0')::numeric, 2) AS quiet
FROM answers WHERE round > 0 GROUP BY name ORDER BY 2;
SELECT DISTINCT campaign, answer FROM answers ORDER BY 1;
