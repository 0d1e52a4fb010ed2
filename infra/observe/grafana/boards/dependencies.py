"""What the functions call: whether it answers, how fast, and how often a call had to be repeated."""

import promql
from panels import COUNT, GREEN, PER_SECOND, RED, SECONDS, SHARE, YELLOW, About, Board, Query, bars_over_time, lines, states

BY = "service, dependency"
LEGEND = "{{service}} to {{dependency}}"
ATTEMPTS = promql.rate("dependency_duration_seconds_count", BY, promql.PICKED)

BOARD = Board(
    name="dependencies",
    title="dependencies",
    description="Kafka, Postgres, DynamoDB, S3 and the scorer, as the functions see them.",
    services_of="circuit_breaker_state",
    rows={
        "Circuit breakers": [
            states(
                "State of the circuit breakers",
                About(
                    "The worst state among the instances of a service. An open breaker refuses calls until a probe succeeds.",
                    "closed everywhere.",
                    "open: that dependency failed five times in a row. Batches wait for it and nothing is lost: docs/runbook.md, An outage.",
                ),
                Query(f"max by ({BY}) ({promql.selector('circuit_breaker_state', promql.PICKED)})", LEGEND),
                {0: ("closed", GREEN), 1: ("half-open", YELLOW), 2: ("open", RED)},
            ),
            bars_over_time(
                "Breakers that opened",
                COUNT,
                About(
                    "How often a circuit breaker opened. It shows what was too short for the picture of states.",
                    "0.",
                    "again and again: the dependency answers the probe and then fails under load.",
                ),
                [Query(promql.increase("circuit_breaker_opened_total", BY, promql.PICKED), LEGEND)],
                width=24,
            ),
        ],
        "Failures": [
            lines(
                "Attempts that failed",
                PER_SECOND,
                About(
                    "Attempts at a dependency that failed by its own fault.",
                    "0, or single ones that the next attempt makes good.",
                    "for minutes. The message `a call to a dependency failed and will be repeated` has the tag of the cause.",
                ),
                [Query(promql.rate("dependency_failures_total", BY, promql.PICKED), LEGEND)],
            ),
            lines(
                "Share of attempts that failed",
                SHARE,
                About(
                    "Failures among all attempts. Calls that an open breaker refuses are no attempts.",
                    "below 1 %.",
                    "it stays high: the breaker will open, or opens and closes in turn.",
                ),
                [Query(promql.share(promql.rate("dependency_failures_total", BY, promql.PICKED), ATTEMPTS), LEGEND)],
                most=1,
            ),
            lines(
                "Retries",
                PER_SECOND,
                About(
                    "Attempts that repeat one that failed.",
                    "0, or single ones.",
                    "as many as failures for minutes: the functions spend their time on waiting.",
                ),
                [Query(promql.rate("dependency_retries_total", BY, promql.PICKED), LEGEND)],
            ),
            lines(
                "Share of attempts that are retries",
                SHARE,
                About(
                    "How much of the load on a dependency is repetition. A call is tried at most three times, so it is at most two thirds.",
                    "below 1 %.",
                    "near two thirds: every call is tried three times and the retries only add load.",
                ),
                [Query(promql.share(promql.rate("dependency_retries_total", BY, promql.PICKED), ATTEMPTS), LEGEND)],
                most=1,
            ),
        ],
        "Traces": [
            lines(
                "Spans that were not sent",
                PER_SECOND,
                About(
                    "Spans that the collector did not take, or that waited in too great a number. No event is touched by it.",
                    "0.",
                    "for minutes: the collector is down or refuses. docs/runbook.md, Traces are not sent.",
                ),
                [Query(promql.rate("spans_total", "service", f'{promql.PICKED},result="dropped"'), "{{service}}")],
            ),
            lines(
                "Requests that the collector did not take",
                PER_SECOND,
                About(
                    "One is followed by a pause of 30 s in which nothing is sent.",
                    "0.",
                    "it stays: each pause ends with another failure.",
                ),
                [Query(promql.rate("trace_export_failures_total", "service", promql.PICKED), "{{service}}")],
            ),
        ],
        "Time": [
            lines(
                "Attempts",
                PER_SECOND,
                About(
                    "Calls to each dependency, retries included.",
                    "it follows the traffic.",
                    "it falls to 0 while traffic goes on: a breaker is open.",
                ),
                [Query(ATTEMPTS, LEGEND)],
                width=24,
            ),
            *(
                lines(
                    f"Time of an attempt, p{round(q * 100)}",
                    SECONDS,
                    About(
                        "Time of one attempt, whether it succeeded or not.",
                        "steady.",
                        "it rises towards the time-out of the call: the dependency is overloaded, or the way to it is.",
                    ),
                    [Query(promql.quantile(q, "dependency_duration_seconds", BY, promql.PICKED), LEGEND)],
                    width=8,
                )
                for q in (0.5, 0.95, 0.99)
            ),
        ],
    },
)
