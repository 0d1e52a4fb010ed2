"""What could not be processed, and what became of it."""

import promql
from panels import (
    COUNT,
    GREEN,
    RECORDS_PER_SECOND,
    RED,
    SHARE,
    YELLOW,
    About,
    Board,
    Query,
    bars_over_time,
    lines,
    number,
    ranking,
)

LETTERS = 'status="dead_lettered"'
GIVEN_UP = 'result=~"at-destination|dropped"'

BOARD = Board(
    name="dead-letters",
    title="dead letters",
    description="Records that hold no valid event or that nobody could process, by reason, and what was sent again.",
    rows={
        "At a glance": [
            number(
                "Dead letters in this time",
                COUNT,
                About(
                    "Records that became dead letters in the time that is looked at.",
                    "0, or a few from producers with mistakes.",
                    "more than usual: see the reasons below, and docs/runbook.md, Dead letters.",
                ),
                Query(f"round({promql.total('dead_letters_total')})", "letters"),
                ((None, GREEN), (1, YELLOW)),
            ),
            number(
                "Records that mappings gave up in this time",
                COUNT,
                About(
                    "Records that no invocation got: they are at the on-failure destination, or were dropped.",
                    "0.",
                    "1 or more: docs/runbook.md, What a trigger gave up.",
                ),
                Query(f"round({promql.total('esm_records_total', where=GIVEN_UP)})", "records"),
                ((None, GREEN), (1, RED)),
            ),
            ranking(
                "Dead letters in this time, by reason",
                COUNT,
                About(
                    "Which reasons there are most of.",
                    "nothing, or what is known.",
                    "`schema-violation` and `unknown-type`: a producer changed. `store-refused` and `too-large`: look at the records. `undecodable`, `tombstone`, `empty-value`: another producer writes to the topic.",
                ),
                Query(f"sort_desc(round({promql.total('dead_letters_total', 'reason')}) > 0)", "{{reason}}"),
            ),
        ],
        "Over time": [
            bars_over_time(
                "Dead letters, by reason",
                COUNT,
                About(
                    "When they came.",
                    "none, or single ones.",
                    "from one moment on: look for a deployment at that time, ours or a producer's.",
                ),
                [Query(promql.increase("dead_letters_total", "reason"), "{{reason}}")],
            ),
            lines(
                "Share of records that are dead letters",
                SHARE,
                About(
                    "Dead letters among all records that got an outcome.",
                    "below 0.1 %.",
                    "it jumps: a producer's or our own change. A batch of which half has types that this build lacks fails and waits instead.",
                ),
                [
                    Query(
                        promql.share(promql.rate("events_processed_total", where=LETTERS), promql.rate("events_processed_total")),
                        "dead letters",
                    )
                ],
                most=1,
            ),
            lines(
                "Dead letters, by type of event",
                RECORDS_PER_SECOND,
                About(
                    "Of which type the events were; `unknown` if the record has no type that has a schema.",
                    "near 0.",
                    "one type alone: its schema and its producer differ.",
                ),
                [Query(promql.rate("events_processed_total", "type", LETTERS), "{{type}}")],
            ),
            bars_over_time(
                "Letters that were redriven, by result",
                COUNT,
                About(
                    "What runs of the redriver did with dead letters.",
                    "nothing, or the results that the operator expects.",
                    "the same letters are redriven and die again: the cause is still there. After three redrives they are parked.",
                ),
                [Query(promql.increase("redrives_total", "result"), "{{result}}")],
            ),
        ],
    },
)
