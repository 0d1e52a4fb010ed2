-- The records in the lines of a table. No line is read as JSON as a whole: what a client sent may have keys that differ only in
-- case, the same key twice, numbers beyond any type, or half a surrogate, and JSON readers change or refuse each of these.
--
-- A line is {"topic":…,"headers":[…],"value…":…}. A quotation mark with a v behind it opens a string, so `],"value` is never inside
-- one, and the first is where the headers end. What is before it was written by the archiver alone and is read as JSON; the value
-- is the text behind it.
WITH halves AS (
  SELECT
    ${keys}
    "$path" AS object,
    substr(line, 1, strpos(line, '],"value')) || '}' AS head,
    substr(line, strpos(line, ',"headers":[') + 11, strpos(line, '],"value') - strpos(line, ',"headers":[') - 10) AS headers,
    substr(line, strpos(line, '],"value') + 2) AS tail
  FROM ${lines}
),
forms AS (
  SELECT
    *,
    CASE
      WHEN starts_with(tail, '"value":') THEN nullif(substr(tail, 9, length(tail) - 9), 'null')
      WHEN starts_with(tail, '"value_text":') THEN json_extract_scalar('{' || tail, '$.value_text')
    END AS value,
    CASE WHEN starts_with(tail, '"value_base64":') THEN json_extract_scalar('{' || tail, '$.value_base64') END AS value_base64
  FROM halves
)
SELECT
  ${keys}
  json_extract_scalar(head, '$.topic') AS topic,
  CAST(json_extract_scalar(head, '$.partition') AS integer) AS kafka_partition,
  CAST(json_extract_scalar(head, '$.offset') AS bigint) AS kafka_offset,
  CASE
    WHEN json_extract_scalar(head, '$.timestamp') <> '-1'
    THEN CAST(from_unixtime(CAST(json_extract_scalar(head, '$.timestamp') AS bigint) / 1e3) AS timestamp(3))
  END AS kafka_timestamp,
  json_extract_scalar(head, '$.key') AS key,
  json_extract_scalar(head, '$.key_base64') AS key_base64,
  headers,
  value,
  value_base64,
  CAST(coalesce(length(to_hex(to_utf8(value))), length(to_hex(from_base64(value_base64))), 0) / 2 AS bigint) AS value_bytes,
  object
FROM forms
