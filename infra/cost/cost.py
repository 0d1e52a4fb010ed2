"""Prices what a million events cause. Usage: cost.py COUNTS.json [--kafka KIND] [--events-per-second N]

COUNTS.json has what was counted while some events passed, by the names of [event] and [kafka] in prices.toml, and optionally what
is paid by the month, by the names of [month]:

    {"what": "processor, batches of 500", "events": 100000, "counts": {"lambda_requests": 400, "lambda_gb_seconds": 9.5},
     "month": {"nat_gateway_hours": 730}}
"""

import argparse
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

PRICES = Path(__file__).with_name("prices.toml")

MILLION = 1_000_000
HOURS_OF_A_MONTH = 730
SECONDS_OF_A_MONTH = HOURS_OF_A_MONTH * 3600

KAFKA_KINDS = ("msk_express", "msk_serverless", "other")


class BadCounts(Exception):
    """What is wrong with a file of counts."""


@dataclass(frozen=True)
class Price:
    usd: float
    per: float
    seen: str

    def of(self, quantity: float) -> float:
        return quantity / self.per * self.usd


@dataclass(frozen=True)
class Line:
    name: str
    quantity: float
    usd: float
    seen: str


@dataclass(frozen=True)
class Prices:
    date: str
    event: Mapping[str, Price]
    month: Mapping[str, Price]


def named(table: Mapping[str, Any]) -> dict[str, Price]:
    return {name: Price(row["usd"], row["per"], row["seen"]) for name, row in table.items()}


def load(kafka: str) -> Prices:
    table = tomllib.loads(PRICES.read_text(encoding="utf-8"))
    return Prices(table["date"], named({**table["event"], **table["kafka"][kafka]}), named(table["month"]))


def lines(prices: Mapping[str, Price], quantities: Mapping[str, Any]) -> list[Line]:
    unknown = sorted(quantities.keys() - prices.keys())
    if unknown:
        raise BadCounts(f"no price has the name {', '.join(unknown)}; there are {', '.join(sorted(prices))}")
    bad = sorted(name for name, value in quantities.items() if isinstance(value, bool) or not isinstance(value, int | float) or value < 0)
    if bad:
        raise BadCounts(f"{', '.join(bad)}: a count is a number from 0 on")
    return [Line(name, quantity, prices[name].of(quantity), prices[name].seen) for name, quantity in quantities.items()]


def total(found: list[Line]) -> float:
    return sum(line.usd for line in found)


def per_million(prices: Prices, counted: Mapping[str, Any]) -> list[Line]:
    events, counts = counted.get("events"), counted.get("counts")
    if not isinstance(events, int) or isinstance(events, bool) or events < 1:
        raise BadCounts("events must be how many events passed, from 1 on")
    if not isinstance(counts, dict) or not counts:
        raise BadCounts("counts must have what these events caused")
    lines(prices.event, counts)
    return lines(prices.event, {name: count * MILLION / events for name, count in counts.items()})


def a_month(prices: Prices, counted: Mapping[str, Any]) -> list[Line]:
    return lines(prices.month, counted.get("month", {}))


def monthly_bill(variable_per_million: float, floor: float, events_per_second: float) -> float:
    return floor + variable_per_million * events_per_second * SECONDS_OF_A_MONTH / MILLION


def table(title: str, found: list[Line]) -> list[str]:
    rows = [f"{line.name:32} {line.quantity:18,.3f} {line.usd:12.6f}  {line.seen}" for line in found]
    return [title, *rows, f"{'together':32} {'':18} {total(found):12.6f}"]


def report(prices: Prices, counted: Mapping[str, Any], events_per_second: float | None) -> list[str]:
    variable, fixed = per_million(prices, counted), a_month(prices, counted)
    text = [f"{counted.get('what', 'events')}; prices of {prices.date}, us-east-1, USD"]
    text += table("a million events", variable)
    if fixed:
        text += table("a month without events", fixed)
    if events_per_second is not None:
        bill = monthly_bill(total(variable), total(fixed), events_per_second)
        text.append(f"a month at {events_per_second:g} events/s: {bill:,.2f}")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="?", type=Path)
    parser.add_argument("--kafka", choices=KAFKA_KINDS, default="other")
    parser.add_argument("--events-per-second", type=float)
    given = parser.parse_args()
    if given.counts is None:
        print("Nothing was counted: name a file of counts, as `make cost COUNTS=FILE`. infra/cost/README.md has its format.", file=sys.stderr)
        return 1
    try:
        counted = json.loads(given.counts.read_text(encoding="utf-8"))
        print("\n".join(report(load(given.kafka), counted, given.events_per_second)))
        return 0
    except (OSError, json.JSONDecodeError, BadCounts) as problem:
        print(f"{given.counts}: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
