-- What came in, one row for each line. Fields are those of the envelope that ingest writes; a record that holds no JSON object has
-- none, and is here nevertheless.
SELECT
  dt,
  hour,
  topic,
  kafka_partition,
  kafka_offset,
  kafka_timestamp,
  json_extract_scalar(value, '$.tenant') AS tenant,
  json_extract_scalar(value, '$.type') AS event_type,
  json_extract_scalar(value, '$.id') AS event_id,
  try(CAST(from_iso8601_timestamp(json_extract_scalar(value, '$.received_at')) AS timestamp(3))) AS received_at,
  json_extract_scalar(value, '$.ip') AS address,
  key,
  key_base64,
  headers,
  value,
  value_base64,
  value_bytes,
  object
FROM raw_records
