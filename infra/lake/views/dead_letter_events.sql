-- Records that could not be processed. The bytes of each are in raw_events, at its origin.
SELECT
  dt,
  hour,
  kafka_timestamp,
  split_part(reason, ':', 1) AS reason,
  reason AS explanation,
  recorded_at,
  origin_topic,
  origin_partition,
  origin_offset,
  value,
  object
FROM processed_events
WHERE status = 'dead_lettered'
