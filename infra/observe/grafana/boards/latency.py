"""How long things take, from the outside in."""

import promql
from panels import REQUESTS_PER_SECOND, SECONDS, SHARE, About, Board, Query, lines

QUANTILES = (0.5, 0.95, 0.99)

BOARD = Board(
    name="latency",
    title="latency",
    description="How long answers and batches take, and which step takes the time.",
    services_of="http_request_duration_seconds_count",
    rows={
        "HTTP": [
            lines(
                "Requests, by route and status",
                REQUESTS_PER_SECOND,
                About(
                    "Answers by the template of their path and the status code.",
                    "202 at ingest, 200 and a few 404 at query.",
                    "5xx; or 401, 403 or 429 in numbers: docs/troubleshooting.md.",
                ),
                [
                    Query(
                        promql.rate("http_requests_total", "service, route, status", promql.PICKED),
                        "{{service}} {{route}} {{status}}",
                    )
                ],
                stacked=True,
            ),
            lines(
                "Share of answers that are our fault",
                SHARE,
                About(
                    "Answers with a status from 500 on, as a share of all answers.",
                    "0.",
                    "above 0 for minutes: see which dependency fails on the dashboard dependencies.",
                ),
                [
                    Query(
                        promql.share(
                            promql.rate("http_requests_total", "service", promql.both(promql.PICKED, 'status=~"5.."')),
                            promql.rate("http_requests_total", "service", promql.PICKED),
                        ),
                        "{{service}}",
                    )
                ],
            ),
            *(
                lines(
                    f"Time to an answer, p{round(q * 100)}, by route",
                    SECONDS,
                    About(
                        "Time from a request to its answer. With `wait_ms` that of query includes the wait.",
                        "steady, a few times the time of one publication to Kafka.",
                        "it rises with the time to publish: Kafka is slow. It rises alone: the function lacks CPU, or API keys are slow to look up.",
                    ),
                    [
                        Query(
                            promql.quantile(q, "http_request_duration_seconds", "service, route", promql.PICKED),
                            "{{service}} {{route}}",
                        )
                    ],
                    width=8,
                )
                for q in QUANTILES
            ),
            lines(
                "Share of answers within 100 ms and within 1 s",
                SHARE,
                About(
                    "Read from the buckets, so it is exact and not estimated.",
                    "close to 100 %.",
                    "it falls: clients begin to wait, and to send again.",
                ),
                [
                    Query(
                        promql.below("http_request_duration_seconds", bound, "service", promql.PICKED),
                        f"{{{{service}}}} within {text}",
                    )
                    for bound, text in (("0.1", "100 ms"), ("1", "1 s"))
                ],
                most=1,
            ),
            lines(
                "Time of a publication to Kafka",
                SECONDS,
                About(
                    "Time from publishing to Kafka's acknowledgement, of a request's events together. The processor's is its step `publish` below.",
                    "steady.",
                    "it rises: a broker is slow or a partition has no leader. In the end clients get 503.",
                ),
                [Query(promql.quantile(q, "publish_duration_seconds"), f"p{round(q * 100)}") for q in QUANTILES],
            ),
        ],
        "Batches": [
            lines(
                "Steps of the processor, mean",
                SECONDS,
                About(
                    "The time of a batch by its steps; together they are about the time of the batch.",
                    "no step takes most of it for long.",
                    "one step grows: claims (the dedup store), limits and scores (the access store, the scorer), storing (Postgres), publishing (Kafka).",
                ),
                [Query(promql.mean("step_duration_seconds", "step"), "{{step}}")],
                stacked=True,
            ),
            lines(
                "Steps of the processor, p95",
                SECONDS,
                About(
                    "The slow batches, by step.",
                    "a small multiple of the mean.",
                    "far from the mean: retries, a lock in Postgres, or a batch that is much larger than others.",
                ),
                [Query(promql.quantile(0.95, "step_duration_seconds", "step"), "{{step}}")],
            ),
            lines(
                "Time of an invocation, p95, by function",
                SECONDS,
                About(
                    "Of the invocations that succeeded.",
                    "well below the time-out of the function.",
                    "it comes near the time-out: batches begin to fail as out of time. Take smaller batches, or find the slow dependency.",
                ),
                [Query(promql.quantile(0.95, "processing_duration_seconds", "service"), "{{service}}")],
                width=24,
            ),
        ],
    },
)
