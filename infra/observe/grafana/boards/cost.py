"""What drives the bill on AWS, as far as metrics say it. infra/cost has the prices."""

import places  # noqa: F401, where metrics is
import promql
from panels import BYTES, COUNT, PER_SECOND, About, Board, Query, lines, number, ranking

import metrics

EVENTS = promql.total("events_received_total")
OBJECTS = promql.total("archive_objects_total", where='result="created"')
RUNS = f"({promql.total('invocations_total', 'service')} or {promql.total('http_requests_total', 'service')})"
CALLS = promql.total("dependency_duration_seconds_count", "service, dependency")
NOT_ESM = 'service!="esm"'


def per_thousand_events(expression: str) -> str:
    return f"1000 * {expression} / scalar({EVENTS})"


def series_on_cloudwatch(metric: metrics.Metric) -> str:
    """How many metrics CloudWatch would bill for one metric of the list: one for each combination of dimensions."""
    by = ", ".join(("service", *sorted(metric.dimensions)))
    one_of_its_series = f"{metric.name}_count" if metric.kind == "Histogram" else metric.name
    combinations = f"count by ({by}) ({promql.selector(one_of_its_series, NOT_ESM)})"
    return f'label_replace(count({combinations}), "metric", "{metric.name}", "", "")'


# esm does not run on AWS: Lambda's own mappings do its work.
SERIES = " or ".join(series_on_cloudwatch(metric) for metric in metrics.read().values() if metric.services != {"esm"})

BOARD = Board(
    name="cost",
    title="cost",
    description="What drives the bill on AWS: events, requests, invocations, calls, objects, bytes and metrics. `make cost` has the prices.",
    rows={
        "In this time": [
            number(
                "Events",
                COUNT,
                About("Events that were acknowledged. The rest is set against them.", "as planned.", "many more than planned."),
                Query(f"round({EVENTS})", "events"),
                width=4,
            ),
            number(
                "HTTP requests",
                COUNT,
                About(
                    "Requests at ingest and query. API Gateway bills each, Lambda too.",
                    "far fewer than events, if clients send batches.",
                    "one for each event: clients send single events where batches would do.",
                ),
                Query(f"round({promql.total('http_requests_total')})", "requests"),
                width=4,
            ),
            number(
                "Invocations",
                COUNT,
                About(
                    "Of the functions that do not serve HTTP. Lambda bills each, and its time.",
                    "far fewer than events.",
                    "near the number of events: batches are too small.",
                ),
                Query(f"round({promql.total('invocations_total')})", "invocations"),
                width=4,
            ),
            number(
                "Calls to dependencies",
                COUNT,
                About(
                    "DynamoDB, S3 and the scorer bill calls; Kafka and Postgres do not.",
                    "a few for each batch.",
                    "grows faster than the events do.",
                ),
                Query(f"round({promql.total('dependency_duration_seconds_count')})", "calls"),
                width=4,
            ),
            number(
                "Objects created",
                COUNT,
                About(
                    "S3 bills each.",
                    "a few for each batch.",
                    "near the number of events: see records per object on the dashboard archive.",
                ),
                Query(f"round({OBJECTS})", "objects"),
                width=4,
            ),
            number(
                "Bytes to the archive",
                BYTES,
                About("Compressed. S3 bills them by the month.", "it follows the events.", "it grows faster than they do."),
                Query(promql.total("archive_object_bytes_sum"), "bytes"),
                width=4,
            ),
        ],
        "For each thousand events": [
            ranking(
                "Invocations and requests per 1,000 events, by function",
                COUNT,
                About(
                    "How well batches are filled. With 500 events in a batch there are 2 invocations per 1,000 events.",
                    "processor and archiver at a few.",
                    "hundreds: raise the batch size or the window of the mapping; let clients send batches.",
                ),
                Query(f"sort_desc({per_thousand_events(RUNS)})", "{{service}}"),
            ),
            ranking(
                "Calls per 1,000 events, by dependency",
                COUNT,
                About(
                    "What the events cause at each dependency.",
                    "steady.",
                    "it rises without more events: retries, or smaller batches.",
                ),
                Query(f"sort_desc({per_thousand_events(CALLS)})", "{{service}} to {{dependency}}"),
            ),
        ],
        "Time and repetition": [
            lines(
                "Busy time, by function",
                COUNT,
                About(
                    "Seconds of work in each second: how many invocations run at once on average. Times the memory of the function it is what Lambda bills as GB-seconds. Starts and invocations that failed are not in it.",
                    "it follows the traffic.",
                    "it grows without more events: a dependency got slower, and Lambda bills the wait.",
                ),
                [
                    Query(
                        f"{promql.rate('processing_duration_seconds_sum', 'service')} or {promql.rate('http_request_duration_seconds_sum', 'service')}",
                        "{{service}}",
                    )
                ],
                stacked=True,
            ),
            lines(
                "Work that is paid for twice",
                PER_SECOND,
                About(
                    "Invocations that failed, calls that were repeated, and records that were delivered again.",
                    "near 0.",
                    "for long: find the cause on the dashboards functions and dependencies.",
                ),
                [
                    Query(promql.rate("invocations_total", where='result="failed"'), "failed invocations"),
                    Query(promql.rate("dependency_retries_total"), "retries"),
                    Query(promql.rate("records_redelivered_total"), "redelivered records"),
                ],
            ),
        ],
        "Metrics of CloudWatch": [
            number(
                "Metrics that CloudWatch would bill",
                COUNT,
                About(
                    "The combinations of dimensions of all metrics, of the services that Prometheus sees. CloudWatch bills a month of each that got a value, so it is at most this many.",
                    "it grows only with new functions, routes and reasons.",
                    "it grows with traffic: some dimension has too many values.",
                ),
                Query(f"sum({SERIES})", "metrics"),
            ),
            ranking(
                "The 15 metrics of the list with the most of them",
                COUNT,
                About(
                    "Which metric of the list they belong to.",
                    "dependency, route and reason metrics on top.",
                    "a metric above a few dozen.",
                ),
                Query(f"topk(15, {SERIES})", "{{metric}}"),
                width=18,
            ),
        ],
    },
)
