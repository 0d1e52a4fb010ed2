"""Whether the archive has everything, and how fresh it is."""

import promql
from panels import BYTES, BYTES_PER_SECOND, COUNT, PER_SECOND, RECORDS_PER_SECOND, SECONDS, SHARE, About, Board, Query, lines

ARCHIVER = 'service="archiver"'
CREATED = promql.rate("archive_objects_total", where='result="created"')
FAILED = promql.rate("archive_objects_total", where='result="failed"')

BOARD = Board(
    name="archive",
    title="archive",
    description="What the archiver writes to S3: how much, how large, how fresh.",
    rows={
        "Freshness": [
            lines(
                "Delay from record to archive, p95, by topic",
                SECONDS,
                About(
                    "Age of a batch's oldest record, by Kafka's timestamp, when all of the batch was in the archive. docs/slo.md has the goal.",
                    "a little above the time that a mapping waits for its batch.",
                    "it grows as the clock does: nothing is written. After an outage it is high until the backlog is written.",
                ),
                [Query(promql.quantile(0.95, "archive_delay_seconds", "topic"), "{{topic}}")],
            ),
            lines(
                "Age of the oldest record of a batch",
                SECONDS,
                About(
                    "How old the oldest record was when an invocation of the archiver began.",
                    "a few seconds.",
                    "it grows: the archiver is behind. If it is small and the delay is not, S3 is slow.",
                ),
                [
                    Query(promql.quantile(q, "oldest_record_age_seconds", where=ARCHIVER), f"p{round(q * 100)}")
                    for q in (0.5, 0.99)
                ],
            ),
        ],
        "Records and objects": [
            lines(
                "Records archived, by topic",
                RECORDS_PER_SECOND,
                About(
                    "Records in objects that were created. A record that is delivered again is not counted again.",
                    "as many as records are written to each topic.",
                    "0 while records are written.",
                ),
                [Query(promql.rate("records_archived_total", "topic"), "{{topic}}")],
                stacked=True,
            ),
            lines(
                "Objects, by result",
                PER_SECOND,
                About(
                    "`created`; `already-there` for a batch that came again; `failed`, whose records will be sent again.",
                    "`created`, and some `already-there` after a restart.",
                    "`failed` for minutes: S3 refuses or does not answer. The message `archive object not written; its records will be sent again` has the tag.",
                ),
                [Query(promql.rate("archive_objects_total", "result"), "{{result}}")],
            ),
            lines(
                "Share of objects that were not written",
                SHARE,
                About(
                    "Failed among all.",
                    "0.",
                    "above 0 for minutes. `denied` and `absent` need a person: permissions, or the bucket's name.",
                ),
                [Query(promql.share(FAILED, promql.rate("archive_objects_total")), "failed")],
                most=1,
            ),
            lines(
                "Records per object",
                COUNT,
                About(
                    "How many records an object has. Each object costs a request, and its reader another.",
                    "near the batch size of the mapping under load; small when there is little traffic.",
                    "small under load: many keys or hours in a batch, or batches that are too small.",
                ),
                [Query(promql.share(promql.rate("records_archived_total"), CREATED), "records per object")],
            ),
        ],
        "Size": [
            lines(
                "Size of an object, compressed",
                BYTES,
                About(
                    "Of the objects that were created.",
                    "steady.",
                    "it jumps: events got larger, or are less alike.",
                ),
                [
                    Query(promql.mean("archive_object_bytes"), "mean"),
                    *(Query(promql.quantile(q, "archive_object_bytes"), f"p{round(q * 100)}") for q in (0.5, 0.95)),
                ],
            ),
            lines(
                "Bytes written",
                BYTES_PER_SECOND,
                About(
                    "Compressed bytes that go to the bucket.",
                    "it follows the traffic.",
                    "it grows faster than the records do.",
                ),
                [Query(promql.rate("archive_object_bytes_sum"), "bytes")],
            ),
        ],
    },
)
