"""What the pipeline keeps out or marks: copies, fraud, addresses over their limit."""

import promql
from panels import (
    COUNT,
    EVENTS_PER_SECOND,
    GREEN,
    RECORDS_PER_SECOND,
    REQUESTS_PER_SECOND,
    SHARE,
    YELLOW,
    About,
    Board,
    Query,
    bars_over_time,
    lines,
    number,
)

PROCESSED = promql.rate("events_processed_total")
STORED = promql.rate("events_processed_total", where='status=~"valid|fraud"')

BOARD = Board(
    name="dedup-and-fraud",
    title="dedup and fraud",
    description="Duplicates, scores, blocked addresses and rate limits.",
    rows={
        "Duplicates": [
            lines(
                "Duplicates",
                RECORDS_PER_SECOND,
                About(
                    "Records whose event was there already, and those among them whose payload differs from the first copy's.",
                    "a few, from clients that send again after a time-out.",
                    "many: a client sends everything twice, or an idempotency key is reused. Records that are delivered again are not counted here.",
                ),
                [
                    Query(promql.rate("dedup_hits_total"), "duplicates"),
                    Query(promql.rate("payload_differs_total"), "with another payload"),
                ],
            ),
            lines(
                "Share of records that are duplicates",
                SHARE,
                About(
                    "Duplicates among all records that got an outcome.",
                    "steady.",
                    "it jumps after a client's release: compare the time with theirs. For other payloads see docs/runbook.md, Duplicates whose payload differs.",
                ),
                [Query(promql.share(promql.rate("dedup_hits_total"), PROCESSED), "duplicates")],
                most=1,
            ),
        ],
        "Scores": [
            number(
                "Events that wait for a score",
                COUNT,
                About(
                    "Stored events without a score, at the end of the last run of the rescorer.",
                    "0.",
                    "above 0 for longer than the scorer was down: the rescorer does not run, or cannot score them.",
                ),
                Query("max(unscored_events)", "events"),
                ((None, GREEN), (1, YELLOW)),
            ),
            lines(
                "Fraud",
                RECORDS_PER_SECOND,
                About(
                    "Records whose outcome is `fraud`, when they were first scored.",
                    "steady.",
                    "0 while events are scored: the rules do not match any more. A jump: an attack, or new rules.",
                ),
                [Query(promql.rate("fraud_detected_total"), "fraud")],
                width=9,
            ),
            lines(
                "Share of stored events that are fraud",
                SHARE,
                About(
                    "Fraud among the events that were stored. Events without a score count as valid until they get one.",
                    "steady.",
                    "it jumps: compare with the time of a deployment of the scorer.",
                ),
                [Query(promql.share(promql.rate("fraud_detected_total"), STORED), "fraud")],
                width=9,
                most=1,
            ),
            lines(
                "Events stored without a score",
                EVENTS_PER_SECOND,
                About(
                    "Events that were stored while the scorer gave no answer.",
                    "0.",
                    "as many as events stored: the scorer is down. The rescorer will score them.",
                ),
                [Query(promql.rate("events_unscored_total"), "unscored")],
            ),
            lines(
                "Scores that came later, by outcome",
                EVENTS_PER_SECOND,
                About(
                    "Events that got their score after they were stored.",
                    "0, or as many as were stored without a score, a minute or so later.",
                    "0 while events wait for a score.",
                ),
                [Query(promql.rate("events_scored_late_total", "status"), "{{status}}")],
            ),
        ],
        "Blocks and limits": [
            bars_over_time(
                "Addresses that were blocked",
                COUNT,
                About(
                    "Addresses that were put on the block list because they were over their limit.",
                    "few or none.",
                    "many at once: an attack; or the address of a proxy stands for all clients, and TRUSTED_PROXIES does not name it.",
                ),
                [Query(promql.increase("addresses_blocked_total"), "addresses")],
                width=8,
            ),
            lines(
                "Records that were blocked",
                RECORDS_PER_SECOND,
                About(
                    "Records with the outcome `blocked`.",
                    "near 0.",
                    "a customer's traffic among them: docs/runbook.md, Blocked addresses.",
                ),
                [Query(promql.rate("events_processed_total", "type", 'status="blocked"'), "{{type}}")],
                width=8,
            ),
            lines(
                "Requests over the rate of their API key",
                REQUESTS_PER_SECOND,
                About(
                    "Requests that were answered 429 because their key is over its rate.",
                    "0, or short peaks.",
                    "for long: a client does not wait as Retry-After says, or its key needs a higher rate (docs/api-keys.md).",
                ),
                [Query(promql.rate("rate_limited_total", "service"), "{{service}}")],
                width=8,
            ),
        ],
    },
)
