"""Whether events get through: what came in, what became of it, and what waits."""

import promql
from panels import (
    COUNT,
    EVENTS_PER_SECOND,
    GREEN,
    PER_SECOND,
    RECORDS_PER_SECOND,
    RED,
    SECONDS,
    YELLOW,
    About,
    Board,
    Query,
    bars_over_time,
    lines,
    number,
)

BOARD = Board(
    name="flow",
    title="flow",
    description="Whether events get through: what came in, what became of it, and what waits. The first place to look.",
    rows={
        "At a glance": [
            number(
                "Events received in this time",
                COUNT,
                About(
                    "Events that ingest acknowledged in the time that is looked at. Kafka has them.",
                    "about as many as at the same hour of other days.",
                    "none, while clients send: see the answers on the dashboard latency.",
                ),
                Query(f"round({promql.total('events_received_total')})", "received"),
            ),
            number(
                "Records that wait",
                COUNT,
                About(
                    "Records that the consumer groups have not committed yet, of all groups together.",
                    "it rises and falls with the traffic and comes back to about 0.",
                    "it grows for minutes: a consumer is too slow, or stands still.",
                ),
                Query(promql.lag(), "waiting"),
                ((None, GREEN), (10_000, YELLOW), (100_000, RED)),
            ),
            number(
                "Groups whose lag is unknown",
                COUNT,
                About(
                    "Consumer groups of which Kafka did not tell the lag at the last look.",
                    "0.",
                    "1 or more: Kafka does not answer `esm`, or refuses it. Then the pictures of lag show the values of the look before.",
                ),
                Query("sum(1 - max by (group) (queue_lag_known))", "groups"),
                ((None, GREEN), (1, RED)),
            ),
            number(
                "Records without an outcome",
                COUNT,
                About(
                    "Records below the checkpoints that have no outcome, as the last upkeep of the maintainer counted them.",
                    "0, always.",
                    "1 or more: records are lost, unless their batch is delivered again. `make reconcile` names them.",
                ),
                Query("max(unaccounted_records)", "records"),
                ((None, GREEN), (1, RED)),
            ),
        ],
        "In and out": [
            lines(
                "Events received, by type",
                EVENTS_PER_SECOND,
                About(
                    "Events that ingest acknowledged, by the second.",
                    "it follows the clients' traffic.",
                    "a type that has always been there stops, or all fall to 0 at once.",
                ),
                [Query(promql.rate("events_received_total", "type"), "{{type}}")],
                stacked=True,
            ),
            lines(
                "Events refused, by reason",
                EVENTS_PER_SECOND,
                About(
                    "Events and whole requests that ingest refused or could not get acknowledged, by the tag of the answer.",
                    "a few `schema_violation` and `malformed_json` from clients with mistakes.",
                    "one reason rises at once. `unacknowledged` and tags that end in `unavailable` are our fault, most others a client's: docs/troubleshooting.md.",
                ),
                [Query(promql.rate("events_rejected_total", "reason"), "{{reason}}")],
            ),
            lines(
                "Records processed, by outcome",
                RECORDS_PER_SECOND,
                About(
                    "Records that got an outcome, each counted once, also if its batch is delivered again.",
                    "nearly all are `valid`, and together they are as many as the events received.",
                    "0 while events are received: batches fail or nobody calls the processor. Or `dead_lettered`, `blocked` or `duplicate` take over.",
                ),
                [Query(promql.rate("events_processed_total", "status"), "{{status}}")],
                stacked=True,
            ),
            lines(
                "Received beside processed",
                EVENTS_PER_SECOND,
                About(
                    "The two ends of raw-events: what ingest put in, and what the processor took out. Redriven records and those of other producers are processed, too, without having been received.",
                    "the lines lie on each other.",
                    "processed stays below received: the difference waits in Kafka.",
                ),
                [
                    Query(promql.rate("events_received_total"), "received"),
                    Query(promql.rate("events_processed_total"), "processed"),
                ],
            ),
        ],
        "What waits": [
            lines(
                "Lag, by group and topic",
                COUNT,
                About(
                    "Records that a consumer group has not committed yet. Kafka is asked for every partition, whoever consumes it.",
                    "small, and back to about 0 after each peak.",
                    "one group grows while others do not: that consumer fails. All grow: Kafka, or more traffic than the consumers can take.",
                ),
                [Query(promql.lag("group, topic"), "{{group}} of {{topic}}")],
            ),
            lines(
                "Lag of the ten slowest partitions",
                COUNT,
                About(
                    "The same, of single partitions.",
                    "the partitions are about equal.",
                    "one partition grows alone: a record there fails its batch again and again, or another producer gives many records the same key.",
                ),
                [Query(f"topk(10, {promql.LAG_OF_PARTITIONS})", "{{group}} {{topic}}/{{partition}}")],
            ),
            lines(
                "Age of the oldest record of a batch, p99",
                SECONDS,
                About(
                    "How old the oldest record of a batch was when its invocation began: how far the consumer is behind, in time.",
                    "within a few seconds.",
                    "it grows as the clock does: the consumer stands still, or works on a backlog.",
                ),
                [Query(promql.quantile(0.99, "oldest_record_age_seconds", "service"), "{{service}}")],
            ),
            lines(
                "Delay from receipt to row",
                SECONDS,
                About(
                    "Time from the receipt of an event by ingest to the commit of its row, of the events that were stored. docs/slo.md has the goal.",
                    "steady; a second or less at p50.",
                    "it rises with the lag, while a backlog is worked off; or alone: see the steps of the processor on the dashboard latency.",
                ),
                [Query(promql.quantile(q, "event_delay_seconds"), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)],
            ),
        ],
        "Delivery": [
            lines(
                "Records of the mappings, by what became of them",
                RECORDS_PER_SECOND,
                About(
                    "What `esm` did with the records of each group.",
                    "`delivered`, and `filtered` where a mapping has filters.",
                    "any `at-destination` or `dropped`: the mapping gave records up. See docs/runbook.md, What a trigger gave up.",
                ),
                [Query(promql.rate("esm_records_total", "group, result"), "{{group}}: {{result}}")],
            ),
            bars_over_time(
                "Logs that were made again",
                COUNT,
                About(
                    "How often the processor found another record at a known position.",
                    "0.",
                    "1 or more: a topic was deleted and made again, lost its tail, or is another cluster's. See docs/runbook.md, A topic that was made again.",
                ),
                [Query(promql.increase("incarnations_begun_total", "topic"), "{{topic}}")],
            ),
        ],
        "Statistics": [
            lines(
                "Processed beside added to statistics",
                RECORDS_PER_SECOND,
                About(
                    "The two ends of the ledger: the records that the processor gave an outcome, and those that the aggregator added to statistics.",
                    "the second line jumps once a minute, and both have the same mean.",
                    "nothing is added while records are processed: the aggregator does not run, or fails.",
                ),
                [
                    Query(promql.rate("events_processed_total"), "processed"),
                    Query(promql.rate("records_aggregated_total"), "added"),
                ],
            ),
            lines(
                "Age of what no statistics count yet",
                SECONDS,
                About(
                    "Age of the oldest batch of records that no statistics count yet, at the end of a run of the aggregator.",
                    "0, or a minute or two.",
                    "it grows as the clock does: docs/runbook.md, Statistics are behind. Nothing is lost.",
                ),
                [Query("max(unaggregated_age_seconds)", "oldest")],
            ),
        ],
        "Webhooks": [
            lines(
                "Attempts to deliver webhooks, by result",
                PER_SECOND,
                About(
                    "Requests to the endpoints of tenants. What failed is tried again, ten times in all within three days.",
                    "nearly all `delivered`.",
                    "`failed` for long: an endpoint does not take what it asked for. docs/runbook.md, Webhooks are behind.",
                ),
                [Query(promql.rate("webhook_attempts_total", "result"), "{{result}}")],
                stacked=True,
            ),
            lines(
                "Time of an attempt to deliver a webhook",
                SECONDS,
                About(
                    "Time of one request to an endpoint, whether it succeeded or not.",
                    "steady, and far below WEBHOOK_TIMEOUT_MS.",
                    "it lies at WEBHOOK_TIMEOUT_MS: an endpoint does not answer in time, and others wait behind it.",
                ),
                [Query(promql.quantile(q, "webhook_attempt_duration_seconds"), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)],
            ),
            lines(
                "Webhooks that wait for their next attempt",
                COUNT,
                About(
                    "Deliveries that failed and are kept in Postgres for their next attempt, at the end of a run of the notifier.",
                    "0, or as many as an endpoint missed while it was down.",
                    "it grows for hours: an endpoint is down. Beyond WEBHOOK_MAX_WAITING it is paused.",
                ),
                [Query("max(webhooks_waiting)", "waiting")],
            ),
            lines(
                "How long the oldest attempt is overdue",
                SECONDS,
                About(
                    "How long ago the first delivery was due that has not been tried again, at the end of a run of the notifier.",
                    "0, or a minute or two.",
                    "it grows as the clock does: docs/runbook.md, Webhooks are behind. Nothing is lost.",
                ),
                [Query("max(webhook_overdue_seconds)", "oldest")],
            ),
            lines(
                "Streams of outcomes",
                COUNT,
                About(
                    "Streams of `GET /stream` that are open, of all processes of query together.",
                    "as many as there are readers, below STREAM_CONNECTIONS of each process.",
                    "it is at that number: further readers are answered 503 until one ends.",
                ),
                [Query("sum(streams_open)", "open")],
            ),
            lines(
                "Events in streams",
                PER_SECOND,
                About(
                    "Events that were sent to the readers of streams.",
                    "with what is processed, times the readers that ask for it.",
                    "none although streams are open and outcomes are published: the log of query has `a stream ends, because outcomes cannot be read`.",
                ),
                [Query(promql.rate("streamed_events_total"), "sent")],
            ),
            bars_over_time(
                "Webhooks that are dead or were skipped",
                COUNT,
                About(
                    "Deliveries that failed at every attempt, and outcomes that a paused endpoint was not told.",
                    "0.",
                    "dead: docs/runbook.md, Webhooks are dead. Skipped: docs/runbook.md, A webhook is paused.",
                ),
                [
                    Query(promql.increase("webhooks_dead_total"), "dead"),
                    Query(promql.increase("webhooks_skipped_total"), "skipped"),
                ],
            ),
        ],
    },
)
