"""The list of alerts, and what Prometheus makes of it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import yaml

OBSERVE = Path(__file__).resolve().parent
ROOT = OBSERVE.parents[1]
LIST = OBSERVE / "alerts.yaml"
RUNBOOK = "docs/runbook.md"

Row = dict[str, Any]

# Windows from here on change slowly and read many samples.
LONG_WINDOWS = ("6h", "3d")
# Below the five minutes after which Prometheus takes a series for gone.
INTERVAL_OF_LONG_WINDOWS = "2m"


@dataclass(frozen=True)
class Alert:
    """A row of the list, or an objective at one of the rates."""

    name: str
    severity: str
    services: tuple[str, ...]
    summary: str
    runbook: str
    prometheus: Row

    def rule(self) -> Row:
        held = {"for": self.prometheus["for"]} if "for" in self.prometheus else {}
        # Where there are several, the expression keeps the label or names the consumer group.
        service = {"service": self.services[0]} if len(self.services) == 1 else {}
        return {
            "alert": self.name,
            "expr": self.prometheus["expr"],
            **held,
            "labels": {"severity": self.severity, **service},
            "annotations": {"summary": self.summary, "runbook_url": f"{RUNBOOK}#{self.runbook}"},
        }


def load(path: Path = LIST) -> Row:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alerts(listed: Row) -> list[Alert]:
    return [*of_objectives(listed), *(of_row(row) for row in listed["alerts"])]


def of_row(row: Row) -> Alert:
    return Alert(
        name=row["name"],
        severity=row["severity"],
        services=tuple(row["services"]),
        summary=row["summary"],
        runbook=row["runbook"],
        prometheus=row["prometheus"],
    )


def of_objectives(listed: Row) -> Iterator[Alert]:
    for slo in listed["slos"]:
        for rate in listed["burn_rates"]:
            yield Alert(
                name=f'{slo["name"]}-{rate["name"]}',
                severity=rate["severity"],
                services=tuple(slo["services"]),
                summary=f'{slo["summary"]}: the error budget is used up at more than {rate["factor"]} times the allowed rate',
                runbook=slo["runbook"],
                prometheus={"expr": burn(slo, rate, listed["least_bad"])},
            )


def series(kind: str, window: str, slo: Row) -> str:
    return f'slo:{kind}:increase{window}{{slo="{slo["name"]}"}}'


def burn(slo: Row, rate: Row, least_bad: int) -> str:
    """Both windows are over the rate, and the long one has enough bad events."""
    # Without the noise of binary fractions, such as 0.09999999999999998.
    limit = f'{rate["factor"] * (1 - slo["objective"]):.6g}'
    over = [f'{series("bad_events", rate[window], slo)} / {series("events", rate[window], slo)} > {limit}' for window in ("long", "short")]
    return "\nand ".join([*over, f'{series("bad_events", rate["long"], slo)} >= {least_bad}'])


def events(slo: Row, window: str) -> str:
    if "histogram" in slo:
        return f'sum(increase({slo["histogram"]}_count{{{slo["prometheus"]["selector"]}}}[{window}]))'
    return f'sum(increase({slo["prometheus"]["events"]}[{window}]))'


def bad_events(slo: Row, window: str) -> str:
    if "histogram" in slo:
        # Prometheus 3 writes the bound 60 as 60.0, and older ones keep it.
        bound = f'{slo["below"]:g}'
        matcher = f'le="{bound}"' if "." in bound else rf'le=~"{bound}(\\.0)?"'
        within = f'sum(increase({slo["histogram"]}_bucket{{{slo["prometheus"]["selector"]},{matcher}}}[{window}]))'
        return f"{events(slo, window)}\n- {within}"
    # A status that has not occurred has no series.
    return f'sum(increase({slo["prometheus"]["bad"]}[{window}]))\nor 0 * {events(slo, window)}'


def windows(listed: Row) -> list[str]:
    """Each once, in the order of the rates."""
    return list(dict.fromkeys(rate[end] for rate in listed["burn_rates"] for end in ("long", "short")))


def recording(listed: Row, chosen: list[str]) -> list[Row]:
    return [
        {"record": f"slo:{kind}:increase{window}", "expr": expression(slo, window), "labels": {"slo": slo["name"]}}
        for slo in listed["slos"]
        for window in chosen
        for kind, expression in (("events", events), ("bad_events", bad_events))
    ]


def groups(listed: Row) -> list[Row]:
    """The groups of a rules file."""
    every = windows(listed)
    return [
        {"name": "forebay-objectives", "rules": recording(listed, [one for one in every if one not in LONG_WINDOWS])},
        {
            "name": "forebay-objectives-long",
            "interval": INTERVAL_OF_LONG_WINDOWS,
            "rules": recording(listed, [one for one in every if one in LONG_WINDOWS]),
        },
        {"name": "forebay-alerts", "rules": [alert.rule() for alert in alerts(listed) if "expr" in alert.prometheus]},
    ]


def anchors(markdown: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
