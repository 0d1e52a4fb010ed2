-- Makes $EVENTS clicks and impressions of the tenant bench in the last 30 days, with what searches and statistics read of them, for
-- `BENCH=query`. Few campaigns and users have most of the events, as in life.
SET statement_timeout = 0;
SET synchronous_commit = off;

DO $$
DECLARE day date;
BEGIN
    FOR day IN SELECT generate_series(current_date - 31, current_date - 1, interval '1 day') LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
                       to_char(day, 'YYYYMMDD'), day, day + 1);
    END LOOP;
END $$;

-- As event::term and the adapter make them.
CREATE FUNCTION pg_temp.term(name text, value text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT ('x' || encode(substr(sha256(convert_to(name || '=' || value, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
         # ('x' || encode(substr(sha256(convert_to('tenant=bench', 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
$$;
CREATE TEMPORARY TABLE terms AS
    SELECT 'user_id' AS name, 'u' || number AS value FROM generate_series(0, 199999) AS number
    UNION ALL SELECT 'campaign_id', 'c' || number FROM generate_series(0, 4999) AS number
    UNION ALL SELECT 'geo_country', 'L' || number FROM generate_series(0, 29) AS number
    UNION ALL SELECT 'device_type', 'd' || number FROM generate_series(0, 2) AS number
    UNION ALL SELECT 'type', unnest(ARRAY['click', 'impression']);
ALTER TABLE terms ADD COLUMN term bigint;
UPDATE terms SET term = pg_temp.term(name, value);
CREATE UNIQUE INDEX ON terms (name, value);
ANALYZE terms;

CREATE TEMPORARY TABLE made AS
    SELECT number, now() - random() * interval '30 days' AS received_at, 'u' || floor(200000 * random() ^ 2)::int AS user_id,
           'c' || floor(5000 * random() ^ 3)::int AS campaign_id, 'L' || floor(30 * random() ^ 2)::int AS geo_country,
           'd' || floor(3 * random())::int AS device_type, CASE WHEN random() < 0.1 THEN 'click' ELSE 'impression' END AS event_type,
           CASE WHEN random() < 0.05 THEN 'fraud' ELSE 'valid' END AS status
    FROM generate_series(1, $EVENTS) AS number
    ORDER BY received_at;

INSERT INTO events (received_day, tenant, event_id, event_type, schema_version, status, received_at, occurred_at, ip_address,
                    user_agent, user_id, payload_hash, payload, risk_score, risk_reasons, rules_version, scored_at, origin_topic,
                    origin_partition, origin_offset, stored_at, terms)
SELECT (m.received_at AT TIME ZONE 'UTC')::date, 'bench', 'e-' || m.number, m.event_type, 1, m.status, m.received_at, m.received_at,
       '203.0.113.7', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', m.user_id,
       decode(md5(m.number::text), 'hex'),
       format('{"type":"%s","id":"e-%s","user_id":"%s","campaign_id":"%s","geo_country":"%s","device_type":"%s"}',
              m.event_type, m.number, m.user_id, m.campaign_id, m.geo_country, m.device_type),
       7, '{}', '1', m.received_at, 'raw-events', 0, m.number, m.received_at, ARRAY[t.term, u.term, c.term, g.term, d.term]
FROM made m
JOIN terms t ON t.name = 'type' AND t.value = m.event_type
JOIN terms u ON u.name = 'user_id' AND u.value = m.user_id
JOIN terms c ON c.name = 'campaign_id' AND c.value = m.campaign_id
JOIN terms g ON g.name = 'geo_country' AND g.value = m.geo_country
JOIN terms d ON d.name = 'device_type' AND d.value = m.device_type;

-- A cell of many events has the sketch of a thousand users, others that of three.
INSERT INTO aggregates
SELECT 'bench', v.dimension, v.value, date_bin('15 minutes', m.received_at, 'epoch'), m.event_type, v.second_value,
       count(*) FILTER (WHERE m.status = 'valid'), count(*) FILTER (WHERE m.status = 'fraud'), 0, 0, 0, 0,
       decode(CASE WHEN count(*) > 30 THEN '$LARGE' ELSE '$SMALL' END, 'hex')
FROM made m
CROSS JOIN LATERAL (VALUES
    ('', '', ''), ('campaign_id', m.campaign_id, ''), ('geo_country', m.geo_country, ''), ('device_type', m.device_type, ''),
    ('campaign_id,geo_country', m.campaign_id, m.geo_country), ('campaign_id,device_type', m.campaign_id, m.device_type)
) AS v (dimension, value, second_value)
GROUP BY 2, 3, 4, 5, 6;

VACUUM ANALYZE events, aggregates;
