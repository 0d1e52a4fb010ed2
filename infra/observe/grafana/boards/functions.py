"""The processes: whether they run, fail, start too often."""

import promql
from panels import (
    COUNT,
    GREEN,
    PER_SECOND,
    RECORDS_PER_SECOND,
    RED,
    SECONDS,
    SHARE,
    About,
    Board,
    Query,
    bars_over_time,
    lines,
    states,
)

BOARD = Board(
    name="functions",
    title="functions",
    description="Every function, and esm: health, invocations, errors, starts.",
    services_of="worker_health",
    rows={
        "Health": [
            states(
                "Health of the workers",
                About(
                    "The worst instance of each service: whether it serves, and its last invocation or request did not fail by the service's fault. A service without a line is not running, or Prometheus does not reach it.",
                    "healthy.",
                    "failing for longer than a batch takes: see the errors below.",
                ),
                Query(f"min by (service) ({promql.selector('worker_health', promql.PICKED)})", "{{service}}"),
                {1: ("healthy", GREEN), 0: ("failing", RED)},
            ),
        ],
        "Invocations": [
            lines(
                "Invocations, by function",
                PER_SECOND,
                About(
                    "Invocations of the functions that do not serve HTTP.",
                    "processor and archiver follow the traffic, rescorer, aggregator and maintainer their schedule, notifier both.",
                    "processor, archiver or notifier at 0 while records wait: nobody calls it. See docs/troubleshooting.md, The trigger does not fire.",
                ),
                [Query(promql.rate("invocations_total", "service", promql.PICKED), "{{service}}")],
            ),
            lines(
                "Share of invocations that failed",
                SHARE,
                About(
                    "A batch that failed is sent again, so this is work done twice and not loss.",
                    "0.",
                    "1 for a function: nothing gets through it.",
                ),
                [
                    Query(
                        promql.share(
                            promql.rate("invocations_total", "service", promql.both(promql.PICKED, 'result="failed"')),
                            promql.rate("invocations_total", "service", promql.PICKED),
                        ),
                        "{{service}}",
                    )
                ],
                most=1,
            ),
            bars_over_time(
                "Errors, by function and tag",
                COUNT,
                About(
                    "Invocations that failed, by the tag of the error. The log line has the whole cause.",
                    "none.",
                    "`…-failed` names a dependency that is down; `unknown-types` a build that lacks types; `out-of-time` batches that are too large; anything else see docs/logs.md.",
                ),
                [Query(promql.increase("invocation_errors_total", "service, error", promql.PICKED), "{{service}}: {{error}}")],
            ),
            lines(
                "Calls of the mappings, by result",
                PER_SECOND,
                About(
                    "What `esm` got for its invocations.",
                    "`ok`.",
                    "`failed`: the function fails its batches. `partly`: it fails some of their records. `throttled`: it has too few instances, or a reserved concurrency that is too small.",
                ),
                [Query(promql.rate("esm_invocations_total", "group, result"), "{{group}}: {{result}}")],
            ),
            lines(
                "Records that were delivered again",
                RECORDS_PER_SECOND,
                About(
                    "Records that came again after they had got their outcome. Nothing is done twice for them.",
                    "0, with peaks after a restart or a deployment.",
                    "steadily: batches succeed but their offsets are not committed, or one partition of a batch fails again and again.",
                ),
                [Query(promql.rate("records_redelivered_total"), "redelivered")],
            ),
            bars_over_time(
                "Upkeep that ended well",
                COUNT,
                About(
                    "Runs of the maintainer after which topics, schema and partitions are up to date.",
                    "one at each time of its schedule, and one at each deployment.",
                    "none for hours: nobody looks for losses, and after some days there is no partition for new events.",
                ),
                [Query(promql.increase("upkeep_runs_total"), "runs")],
            ),
        ],
        "Starts": [
            bars_over_time(
                "Processes that started",
                COUNT,
                About(
                    "Processes that started and could serve.",
                    "at deployments, and when the number of instances changes.",
                    "all the time: a process ends soon after its start. Its last log lines say why.",
                ),
                [Query(promql.increase("cold_starts_total", "service", promql.PICKED), "{{service}}")],
            ),
            lines(
                "Time of a start, p95",
                SECONDS,
                About(
                    "From the start of `main` until the process could serve: its connections.",
                    "well below a second where the dependencies are near.",
                    "seconds: a dependency is slow to connect to, or a name to look up.",
                ),
                [Query(promql.quantile(0.95, "cold_start_duration_seconds", "service", promql.PICKED), "{{service}}")],
            ),
        ],
    },
)
