"""What must hold of the dashboards as they are committed: of the JSON, whatever made it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import queries
from places import ROOT

from metrics import Metric

Json = dict[str, Any]

# It counts the series of every metric, which shows the value of none.
COUNTS_SERIES = "cost"
WIDTH = 24


@dataclass
class Dashboards:
    """The dashboards by their names, and the metrics by the names of their series."""

    made: dict[str, Json]
    metrics: dict[str, Metric]

    def panels(self) -> Iterator[tuple[str, Json]]:
        for name, dashboard in self.made.items():
            for panel in dashboard["panels"]:
                if panel["type"] != "row":
                    yield name, panel

    def targets(self) -> Iterator[tuple[str, Json]]:
        for name, panel in self.panels():
            for target in panel["targets"]:
                yield f"{name}, {panel['title']}", target


Mistakes = Iterator[str]


def queries_are_good(all_: Dashboards) -> Mistakes:
    for where, target in all_.targets():
        for mistake in queries.mistakes(target["expr"], all_.metrics):
            yield f"{where}: {mistake}"


def legends_have_their_labels(all_: Dashboards) -> Mistakes:
    for where, target in all_.targets():
        legend = target.get("legendFormat", "")
        if not legend:
            yield f"{where}: a query has no legend"
        try:
            known = queries.labels(queries.parse(target["expr"]), all_.metrics)
        except ValueError:
            # queries_are_good says so.
            continue
        in_legend = set(re.findall(r"\{\{(\w+)\}\}", legend))
        for unknown in sorted(in_legend - known):
            yield f"{where}: the legend names {unknown}, which the result does not have"
        for hidden in sorted(known - in_legend):
            yield f"{where}: lines differ by {hidden}, which the legend does not name"


def panels_explain_themselves(all_: Dashboards) -> Mistakes:
    for name, panel in all_.panels():
        for part in ("title", "description"):
            if not panel.get(part):
                yield f"{name}: the panel {panel['id']} has no {part}"
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{name}, {panel.get('title')}: it has no unit"
        for part in ("**Healthy:**", "**Sick:**"):
            if part not in panel.get("description", ""):
                yield f"{name}, {panel.get('title')}: the description does not say {part}"


def titles_differ(all_: Dashboards) -> Mistakes:
    seen = set()
    for name, panel in all_.panels():
        if (name, panel["title"]) in seen:
            yield f"{name}: two panels have the title {panel['title']}"
        seen.add((name, panel["title"]))


def docs_are_there(all_: Dashboards) -> Mistakes:
    """A description names a section as `docs/file.md, Its title.`"""
    for name, panel in all_.panels():
        for file, title in re.findall(r"(docs/[\w-]+\.md), ([A-Z][^.:;,]*)", panel.get("description", "")):
            path = ROOT / file
            if not path.exists() or f"\n## {title}\n" not in path.read_text(encoding="utf-8"):
                yield f"{name}, {panel['title']}: {file} has no section {title}"


def the_viewer_chooses_the_source(all_: Dashboards) -> Mistakes:
    for where, target in all_.targets():
        if target["datasource"].get("uid") != "${datasource}":
            yield f"{where}: the query does not ask the data source that was chosen"


def variables_are_used_and_made(all_: Dashboards) -> Mistakes:
    for name, dashboard in all_.made.items():
        made = {variable["name"] for variable in dashboard["templating"]["list"]} - {"datasource"}
        text = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", []))
        used = set(re.findall(r"\$([a-z]\w*)", text))
        for variable in sorted(made ^ used):
            yield f"{name}: the variable {variable} is {'not used' if variable in made else 'not made'}"
        for variable in dashboard["templating"]["list"]:
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", str(variable.get("query", "")))
            if asked and (asked[1] not in all_.metrics or asked[2] not in all_.metrics[asked[1]].labels_of(asked[1])):
                yield f"{name}: the variable {variable['name']} asks for {asked[0]}, which does not exist"


def panels_have_their_place(all_: Dashboards) -> Mistakes:
    for name, dashboard in all_.made.items():
        taken: dict[tuple[int, int], str] = {}
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            if place["x"] + place["w"] > WIDTH:
                yield f"{name}, {panel['title']}: it is beyond the right edge"
            for cell in (
                (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
            ):
                if cell in taken:
                    yield f"{name}, {panel['title']}: it lies over {taken[cell]}"
                    break
                taken[cell] = panel["title"]


def every_metric_is_shown(all_: Dashboards) -> Mistakes:
    shown = set()
    for where, target in all_.targets():
        if not where.startswith(f"{COUNTS_SERIES},"):
            shown |= {name for name, metric in all_.metrics.items() if re.search(rf"\b{name}\b", target["expr"])}
    for metric in sorted({metric.name for metric in all_.metrics.values() if not metric.series & shown}):
        yield f"no dashboard shows {metric}"


def the_playbook_has_it(all_: Dashboards) -> Mistakes:
    headings = re.findall(r"(?m)^## (.*)$", (ROOT / "docs/monitoring.md").read_text(encoding="utf-8").lower())
    for name, dashboard in all_.made.items():
        if dashboard["title"].removeprefix("Forebay: ") not in headings:
            yield f"docs/monitoring.md has no section for the dashboard {name}"


RULES: list[Callable[[Dashboards], Mistakes]] = [
    queries_are_good,
    legends_have_their_labels,
    panels_explain_themselves,
    titles_differ,
    docs_are_there,
    the_viewer_chooses_the_source,
    variables_are_used_and_made,
    panels_have_their_place,
    every_metric_is_shown,
    the_playbook_has_it,
]


def mistakes(all_: Dashboards) -> list[str]:
    return [mistake for rule in RULES for mistake in rule(all_)]
