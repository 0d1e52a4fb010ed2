-- Which columns and indexes a search in events needs; search-storage.sh runs it, after the migrations. All tables get the same
-- batches, in turn, so that whatever else the machine does slows all of them down.

-- A term is a hash of tenant, name and value. `user_term` is the user's, `main_term` that of the first dimension of the type, `keys`
-- has both, `terms` those of the other dimensions too.
CREATE TABLE variants (
    name text PRIMARY KEY, place int, columns text[] NOT NULL, indexes text[] NOT NULL,
    seconds float8 NOT NULL DEFAULT 0, slowest float8 NOT NULL DEFAULT 0, wal numeric NOT NULL DEFAULT 0, later float8
);
INSERT INTO variants (name, columns, indexes) VALUES
    ('today', '{}', '{}'),
    ('by_time_id', '{}', '{"(tenant, received_at, event_id)"}'),
    ('by_time', '{}', '{"(tenant, received_at)"}'),
    ('gin', '{terms bigint[]}', '{"(tenant, received_at)","USING gin (terms)"}'),
    ('gin_direct', '{terms bigint[]}', '{"(tenant, received_at)","USING gin (terms) WITH (fastupdate = off)"}'),
    ('gin_16mb', '{terms bigint[]}', '{"(tenant, received_at)","USING gin (terms) WITH (gin_pending_list_limit = 16384)"}'),
    ('gin_all', '{all_terms bigint[]}', '{"(tenant, received_at)","USING gin (all_terms)"}'),
    ('gin_few', '{terms bigint[],keys bigint[]}', '{"(tenant, received_at)","USING gin (keys)"}'),
    ('btrees_text', '{campaign_id text COLLATE \"C\"}',
     '{"(tenant, received_at)","(tenant, user_id, received_at, event_id)","(tenant, campaign_id, received_at, event_id)"}'),
    ('btrees_terms', '{terms bigint[],user_term bigint,main_term bigint}',
     '{"(tenant, received_at)","(user_term, received_at)","(main_term, received_at)"}'),
    ('bloom_32', '{user_term bigint,main_term bigint}',
     '{"(tenant, received_at)","USING brin (user_term int8_bloom_ops(n_distinct_per_range=400), main_term int8_bloom_ops(n_distinct_per_range=400)) WITH (pages_per_range=32)"}'),
    ('bloom_128', '{user_term bigint,main_term bigint}',
     '{"(tenant, received_at)","USING brin (user_term int8_bloom_ops(n_distinct_per_range=1600), main_term int8_bloom_ops(n_distinct_per_range=1600)) WITH (pages_per_range=128)"}');
DELETE FROM variants WHERE :'variants' <> '' AND name <> ALL (string_to_array(:'variants', ','));
UPDATE variants v SET place = p.place FROM (SELECT name, row_number() OVER () AS place FROM variants) AS p WHERE v.name = p.name;

-- Ten days have events, of the ninety that there are partitions for.
CREATE PROCEDURE make() LANGUAGE plpgsql AS $$
DECLARE
    v variants;
    part text;
BEGIN
    FOR v IN SELECT * FROM variants LOOP
        EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING CONSTRAINTS INCLUDING DEFAULTS) PARTITION BY RANGE (received_day)', v.name);
        EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (tenant, event_id, received_day)', v.name);
        EXECUTE format('CREATE INDEX ON %I (received_at) WHERE risk_score IS NULL', v.name);
        FOREACH part IN ARRAY v.columns LOOP
            EXECUTE format('ALTER TABLE %I ADD %s', v.name, part);
        END LOOP;
        FOREACH part IN ARRAY v.indexes LOOP
            EXECUTE format('CREATE INDEX ON %I %s', v.name, part);
        END LOOP;
        EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', v.name || '_default', v.name);
        FOR day IN 0 .. 89 LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', v.name || '_' || day, v.name,
                           date '2026-09-02' + day, date '2026-09-03' + day);
        END LOOP;
        COMMIT;
    END LOOP;
END
$$;
CALL make();

CREATE FUNCTION term(tenant text, name text, value text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended(tenant || E'\x1f' || name || E'\x1f' || value, 0)
$$;

-- Events `first` to `last` of `total`, which come evenly within ten days until 2026-12-01. 200,000 users, of whom the busiest
-- has 1.7 % of the events, 5,000 campaigns, of which the busiest has 6 % of the clicks and impressions, and rare ones, with ten
-- events each. The busiest campaign is next to never seen in the country AA.
CREATE FUNCTION made(first bigint, last bigint, total bigint) RETURNS TABLE (
    tenant text, event_type text, status text, received_at timestamptz, user_id text, campaign_id text, dimensions text[]
) LANGUAGE sql AS $$
    WITH chosen AS MATERIALIZED (
        SELECT n, random() AS type, random() AS share, CASE WHEN random() < 0.05 THEN 'fraud' ELSE 'valid' END AS status,
               CASE WHEN random() < 0.001 THEN 'rare-' || floor(total / 10000.0 * random())
                    ELSE 'campaign-' || floor(5000 * random() ^ 3) END AS campaign,
               chr(65 + floor(5 * random())::int) || chr(65 + floor(6 * random())::int) AS country,
               (ARRAY['mobile', 'desktop', 'tablet'])[1 + floor(3 * random())] AS device,
               (ARRAY['EUR', 'USD', 'GBP'])[1 + floor(3 * random())] AS currency,
               'user-' || floor(200000 * random() ^ 3) AS user_id, random() < 0.001 AS odd
        FROM generate_series(first, last) AS n
    )
    SELECT CASE WHEN share < 0.8 THEN 'acme' WHEN share < 0.95 THEN 'globex' ELSE 'initech' END, t.type, status,
           '2026-11-21'::timestamptz + interval '10 days' * ((n - 1)::float8 / total),
           CASE WHEN t.type <> 'sensor' THEN user_id END, CASE WHEN t.type IN ('impression', 'click') THEN campaign END,
           CASE t.type
               WHEN 'page_view' THEN ARRAY['method', 'GET', 'status', '200']
               WHEN 'sensor' THEN ARRAY['unit', 'celsius']
               WHEN 'transaction' THEN ARRAY['currency', currency]
               ELSE ARRAY['campaign_id', campaign, 'geo_country',
                          CASE WHEN campaign = 'campaign-0' AND country = 'AA' AND NOT odd THEN 'AB' ELSE country END,
                          'device_type', device]
           END
    FROM chosen
    CROSS JOIN LATERAL (
        SELECT CASE WHEN type < 0.45 THEN 'impression' WHEN type < 0.7 THEN 'click' WHEN type < 0.85 THEN 'page_view'
                    WHEN type < 0.95 THEN 'transaction' ELSE 'sensor' END
    ) AS t (type)
$$;

-- The arrays of a batch by column, with the types that the processor sends.
CREATE TABLE parameters (number int PRIMARY KEY, name text NOT NULL, type text NOT NULL);
INSERT INTO parameters VALUES
    (1, 'received_day', 'date'), (2, 'tenant', 'text'), (3, 'event_id', 'text'), (4, 'event_type', 'text'),
    (5, 'schema_version', 'int8'), (6, 'status', 'text'), (7, 'received_at', 'timestamptz'), (8, 'occurred_at', 'timestamptz'),
    (9, 'ip_address', 'inet'), (10, 'user_agent', 'text'), (11, 'user_id', 'text'), (12, 'payload_hash', 'bytea'),
    (13, 'payload', 'text'), (14, 'risk_score', 'int2'), (15, 'risk_reasons', 'text'), (16, 'rules_version', 'text'),
    (17, 'scored_at', 'timestamptz'), (18, 'origin_topic', 'text'), (19, 'origin_partition', 'int4'),
    (20, 'origin_offset', 'int8'), (21, 'stored_at', 'timestamptz'), (22, 'origin_digest', 'bytea'), (23, 'trace_id', 'bytea'),
    (24, 'terms', 'text'), (25, 'user_term', 'int8'), (26, 'main_term', 'int8'), (27, 'campaign_id', 'text'),
    (28, 'keys', 'text'), (29, 'all_terms', 'text');

\ir insert_into.sql

CREATE PROCEDURE fill(total bigint) LANGUAGE plpgsql AS $$
DECLARE
    statements text[] := (SELECT array_agg(insert_into(name) ORDER BY place) FROM variants);
    spent float8[] := array_fill(0::float8, ARRAY[cardinality(statements)]);
    longest float8[] := spent;
    logged numeric[] := array_fill(0::numeric, ARRAY[cardinality(statements)]);
    b record;
    v int;
    took float8;
    started timestamptz;
    log_at pg_lsn;
BEGIN
    FOR batch IN 0 .. total / 500 - 1 LOOP
        SELECT array_agg(received_at::date) AS received_day, array_agg(tenant) AS tenant,
               array_agg(gen_random_uuid()::text) AS event_id, array_agg(event_type) AS event_type,
               array_agg(1::int8) AS schema_version, array_agg(status) AS status, array_agg(received_at) AS received_at,
               array_agg(received_at - interval '1 s') AS occurred_at,
               array_agg(('10.' || (random() * 255)::int || '.' || (random() * 255)::int || '.7')::inet) AS ip_address,
               array_agg('Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0'::text) AS user_agent,
               array_agg(user_id) AS user_id, array_agg(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) AS payload_hash,
               array_agg(rpad(jsonb_object(dimensions)::text || gen_random_uuid(), 300, 'forebay')) AS payload,
               array_agg(CASE status WHEN 'fraud' THEN 90 ELSE 10 END::int2) AS risk_score,
               array_agg(CASE status WHEN 'fraud' THEN 'private-range' END::text) AS risk_reasons,
               array_agg('1'::text) AS rules_version, array_agg(received_at) AS scored_at,
               array_agg('raw-events'::text) AS origin_topic, array_agg((batch % 6)::int4) AS origin_partition,
               array_agg(batch / 6 * 500 + n) AS origin_offset, array_agg(received_at) AS stored_at,
               array_agg(uuid_send(gen_random_uuid())) AS origin_digest, array_agg(uuid_send(gen_random_uuid())) AS trace_id,
               array_agg(terms::text) AS terms, array_agg(user_term) AS user_term, array_agg(terms[1]) AS main_term,
               array_agg(campaign_id) AS campaign_id, array_agg(array_remove(ARRAY[terms[1], user_term], NULL)::text) AS keys,
               array_agg((terms || ARRAY[term(tenant, 'type', event_type), term(tenant, 'status', status)])::text) AS all_terms
        INTO b
        FROM (
            SELECT *, term(tenant, 'user_id', user_id) AS user_term, row_number() OVER () AS n,
                   array_remove(ARRAY[term(tenant, dimensions[1], dimensions[2]), term(tenant, dimensions[3], dimensions[4]),
                       term(tenant, dimensions[5], dimensions[6]), term(tenant, 'user_id', user_id)], NULL) AS terms
            FROM made(batch * 500 + 1, batch * 500 + 500, total)
        ) AS m;
        FOR turn IN 1 .. cardinality(statements) LOOP
            -- Another one is the first each time.
            v := (batch + turn) % cardinality(statements) + 1;
            log_at := pg_current_wal_insert_lsn();
            started := clock_timestamp();
            EXECUTE statements[v] USING
                b.received_day, b.tenant, b.event_id, b.event_type, b.schema_version, b.status, b.received_at, b.occurred_at,
                b.ip_address, b.user_agent, b.user_id, b.payload_hash, b.payload, b.risk_score, b.risk_reasons, b.rules_version,
                b.scored_at, b.origin_topic, b.origin_partition, b.origin_offset, b.stored_at, b.origin_digest, b.trace_id,
                b.terms, b.user_term, b.main_term, b.campaign_id, b.keys,
                b.all_terms;
            COMMIT;
            took := extract(epoch FROM clock_timestamp() - started);
            spent[v] := spent[v] + took;
            longest[v] := greatest(longest[v], took);
            logged[v] := logged[v] + (pg_current_wal_insert_lsn() - log_at);
        END LOOP;
    END LOOP;
    UPDATE variants SET seconds = spent[place], slowest = longest[place], wal = logged[place];
END
$$;

SELECT setseed(0.38) \g /dev/null
CALL fill(:rows);

-- What inserting leaves for later: pending lists of GIN, summaries of BRIN.
CREATE PROCEDURE finish() LANGUAGE plpgsql AS $$
DECLARE
    i record;
    started timestamptz;
BEGIN
    UPDATE variants SET later = 0;
    FOR i IN
        SELECT c.oid, v.name, amname FROM variants v JOIN pg_inherits ON inhparent = v.name::regclass JOIN pg_index ON indrelid = inhrelid
        JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = relam WHERE amname IN ('gin', 'brin')
    LOOP
        started := clock_timestamp();
        PERFORM CASE i.amname WHEN 'gin' THEN gin_clean_pending_list(i.oid) ELSE brin_summarize_new_values(i.oid) END;
        UPDATE variants SET later = later + extract(epoch FROM clock_timestamp() - started) WHERE name = i.name;
    END LOOP;
END
$$;
CALL finish();
VACUUM ANALYZE;

\echo Inserting, in batches of 500, what is left for later, and what is stored, in bytes per row
SELECT name, (:rows / seconds)::int AS rows_per_second, round((seconds / first)::numeric, 2) AS time_to_first,
       round((1000 * slowest)::numeric) AS slowest_ms, round(later::numeric, 1) AS later_s, round(wal / :rows) AS wal,
       round(size.total / :rows) AS bytes, round(size.indexes / :rows) AS of_them_indexes
FROM variants
CROSS JOIN (SELECT seconds AS first FROM variants WHERE place = 1) AS n
CROSS JOIN LATERAL (
    SELECT sum(pg_total_relation_size(inhrelid)) AS total, sum(pg_indexes_size(inhrelid)) AS indexes
    FROM pg_inherits WHERE inhparent = name::regclass
) AS size
ORDER BY place;

-- A page is read day by day, from the newest on, and ends the walk when it is full. The days come from $2 and $3 too, so that
-- the others are not even opened. The condition of the tenant takes the index by time out of the planner's choice or not.
CREATE TABLE paths (
    variant text NOT NULL, path text NOT NULL, tenant text NOT NULL, filter text NOT NULL, condition text NOT NULL,
    -- So many rows are read at most; the page may be short then.
    reads int, PRIMARY KEY (path, filter)
);
INSERT INTO paths
SELECT v.name, v.name || '.time', 'tenant = $1', f.filter, f.condition
FROM variants v CROSS JOIN (VALUES
    ('none', 'true', '{}'), ('user', 'user_id = $9', '{}'), ('fraud', 'status = $8', '{}'),
    ('campaign', '$10[1] = ANY (terms)', '{terms}'), ('type, country', 'event_type = $7 AND $10[1] = ANY (terms)', '{terms}'),
    ('campaign, country', '$10[1] = ANY (terms) AND $10[2] = ANY (terms)', '{terms}')
) AS f (filter, condition, needs)
WHERE f.needs::text[] <@ (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = v.name::regclass)
  AND v.name IN ('today', 'by_time_id', 'by_time', 'gin', 'btrees_terms');
INSERT INTO paths
SELECT v.name, v.name || '.own', 'tenant || '''' = $1', f.filter, f.condition
FROM variants v CROSS JOIN (VALUES
    ('user', 'terms @> $10'), ('campaign', 'terms @> $10'), ('type, country', 'event_type = $7 AND terms @> $10'),
    ('campaign, country', 'terms @> $10')
) AS f (filter, condition)
WHERE v.name IN ('gin', 'gin_direct')
UNION ALL
SELECT v.name, v.name || '.own', 'tenant || '''' = $1', f.filter, f.condition
FROM variants v CROSS JOIN (VALUES
    ('user', 'keys @> $10'), ('campaign', 'keys @> $10'), ('campaign, country', 'keys @> $10[1:1] AND $10[2] = ANY (terms)')
) AS f (filter, condition)
WHERE v.name = 'gin_few'
UNION ALL
SELECT v.name, v.name || '.own', 'tenant || '''' = $1', f.filter, f.condition
FROM variants v CROSS JOIN (VALUES
    ('user', 'user_term = $10[1]'), ('campaign', 'main_term = $10[1]'),
    ('campaign, country', 'main_term = $10[1] AND $10[2] = ANY (terms)')
) AS f (filter, condition)
WHERE v.name LIKE 'bloom%' AND f.filter <> 'campaign, country' OR v.name = 'btrees_terms'
UNION ALL
SELECT v.name, v.name || '.own', 'tenant = $1', f.filter, f.condition
FROM variants v CROSS JOIN (VALUES ('user', 'user_id = $9'), ('campaign', 'campaign_id = $9')) AS f (filter, condition)
WHERE v.name = 'btrees_text';
INSERT INTO paths
SELECT variant, variant || '.near', tenant, filter, condition, 5000 FROM paths
WHERE path = 'gin.time' AND filter NOT IN ('none', 'user');

CREATE PROCEDURE prepare() LANGUAGE plpgsql AS $$
DECLARE
    p paths;
BEGIN
    FOR p IN SELECT * FROM paths LOOP
        EXECUTE format('PREPARE %1$I (text, date, date, timestamptz, timestamptz, text, text, text, text, bigint[]) AS
            SELECT coalesce(string_agg(event_id, '' ''), '''') || coalesce(sum(length(payload)), 0) FROM (
                SELECT * FROM (
                    SELECT e.* FROM generate_series(0, $3 - $2) AS back CROSS JOIN LATERAL (
                        SELECT * FROM %2$I
                        WHERE received_day = $3 - back AND received_day BETWEEN $2 AND $3 AND %3$s AND received_at >= $4
                          AND received_at <= $5 AND (received_at, event_id) < ($5, $6) AND %4$s
                        ORDER BY received_at DESC, event_id DESC LIMIT %5$s
                    ) AS e LIMIT %5$s
                ) AS e WHERE %6$s LIMIT 51
            ) AS page', p.path || '|' || p.filter, p.variant, p.tenant, CASE WHEN p.reads IS NULL THEN p.condition ELSE 'true' END,
            coalesce(p.reads, 51), CASE WHEN p.reads IS NULL THEN 'true' ELSE p.condition END);
    END LOOP;
END
$$;
CALL prepare();

-- 200 probes of each, or as many as go into a second and a half. The same for all paths: `chance` is made of the probe's number.
CREATE TABLE questions (place int PRIMARY KEY, name text NOT NULL, filter text NOT NULL, frequency text NOT NULL, span text NOT NULL);
INSERT INTO questions
SELECT row_number() OVER (), concat_ws(' ', frequency, filter) || ': ' || span, filter, coalesce(frequency, ''), span
FROM (VALUES
    ('none', NULL), ('campaign', 'hot'), ('campaign', '1'), ('campaign', '10'), ('campaign', '50'), ('campaign', '200'),
    ('campaign', 'middle'), ('campaign', 'rare'), ('user', 'hot'), ('user', 'rare'),
    ('user', 'unknown'), ('type, country', NULL), ('fraud', NULL), ('campaign, country', 'never')
) AS f (filter, frequency) CROSS JOIN (VALUES ('24 h'), ('all'), ('deep')) AS s (span);
CREATE TABLE answers (path text NOT NULL, question int NOT NULL, probe int NOT NULL, ms float8 NOT NULL, answer text NOT NULL);

CREATE PROCEDURE ask() LANGUAGE plpgsql AS $$
DECLARE
    q record;
    chance float8;
    place int;
    value text;
    terms bigint[];
    before timestamptz;
    since timestamptz;
    begun timestamptz;
    started timestamptz;
    ended timestamptz;
    answer text;
BEGIN
    FOR q IN SELECT questions.*, path FROM questions JOIN paths USING (filter) ORDER BY questions.place, path LOOP
        -- Generic plans take a span of time for 0.5 % of the rows, and so they collect and sort what an index has in order.
        -- Where nothing is in order, they still sort.
        SET LOCAL enable_sort = off;
        PERFORM set_config('enable_bitmapscan', (q.path NOT LIKE 'btrees%')::text, true);
        begun := clock_timestamp();
        FOR probe IN -2 .. 200 LOOP
            EXIT WHEN probe > 3 AND clock_timestamp() > begun + interval '1.5 s';
            chance := (hashint8extended(probe, q.place) & 1048575) / 1048576.0;
            value := CASE q.filter || q.frequency
                WHEN 'campaignhot' THEN 'campaign-0' WHEN 'campaignmiddle' THEN 'campaign-' || floor(900 + 150 * chance)
                WHEN 'campaignrare' THEN 'rare-' || floor((SELECT sum(reltuples) FROM pg_class WHERE relname = (SELECT name FROM variants WHERE variants.place = 1)) / 10000 * chance)
                WHEN 'userhot' THEN 'user-' || floor(10 * chance) WHEN 'userrare' THEN 'user-' || floor(190000 + 10000 * chance)
                WHEN 'userunknown' THEN 'nobody-' || chance
                WHEN 'type, country' THEN chr(65 + (probe + 2) % 5) || chr(65 + (probe + 2) % 6)
                ELSE 'campaign-' || q.frequency END;
            terms := CASE q.filter
                WHEN 'campaign' THEN ARRAY[term('acme', 'campaign_id', value)] WHEN 'user' THEN ARRAY[term('acme', 'user_id', value)]
                WHEN 'type, country' THEN ARRAY[term('acme', 'geo_country', value)]
                WHEN 'campaign, country' THEN ARRAY[term('acme', 'campaign_id', 'campaign-0'), term('acme', 'geo_country', 'AA')] END;
            before := CASE q.span WHEN '24 h' THEN '2026-11-30 12:00' WHEN 'all' THEN '2026-12-01'
                ELSE timestamptz '2026-11-23' + interval '6 days' * chance END;
            since := CASE q.span WHEN '24 h' THEN '2026-11-29 12:00' ELSE '2026-09-02' END;
            started := clock_timestamp();
            EXECUTE format('EXECUTE %I (%L, %L, %L, %L, %L, '''', %L, %L, %L, %L)', q.path || '|' || q.filter, 'acme', since::date,
                           before::date, since, before, 'click', 'fraud', value, terms) INTO answer;
            ended := clock_timestamp();
            IF probe > 0 THEN
                INSERT INTO answers SELECT q.path, q.place, probe, 1000 * extract(epoch FROM ended - started), answer;
            END IF;
        END LOOP;
        COMMIT;
    END LOOP;
    IF EXISTS (SELECT FROM answers a JOIN paths p USING (path) WHERE reads IS NULL GROUP BY question, a.probe HAVING count(DISTINCT a.answer) > 1) THEN
        RAISE 'the answers differ';
    END IF;
END
$$;
CALL ask();

\echo A page of 50: median / 99th percentile in milliseconds
SELECT path, name, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 1) || ' / ' ||
       round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 1) ||
       CASE WHEN count(*) < 200 THEN ' (' || count(*) || ')' ELSE '' END AS ms, min(place) AS place
FROM answers JOIN questions ON place = question GROUP BY path, name ORDER BY min(place), path
\crosstabview name path ms
