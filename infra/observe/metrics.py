"""The list of metrics in shared/telemetry: alerts and dashboards may use only what is in it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "shared/telemetry/src"

# An entry of the list: `NAME: Kind(Buckets) in Unit "name" {labels} dimensions {labels} of [services];`
ENTRY = re.compile(
    r'^    [A-Z_]+: (?P<kind>\w+)(?:\((?P<buckets>\w+)\))? in \w+ "(?P<name>\w+)" '
    r"\{(?P<labels>[^}]*)\} dimensions \{(?P<dimensions>[^}]*)\} of \[(?P<services>[^\]]*)\];$",
    re.MULTILINE,
)
BOUNDS = re.compile(r"Buckets::(\w+) => &\[([^\]]*)\]")

# The statistics that say something about each kind.
STATISTICS = {
    "Counter": r"Sum",
    "Gauge": r"Maximum|Minimum|SampleCount",
    "Histogram": r"SampleCount|p\d+|TC\(.*\)",
}


@dataclass(frozen=True)
class Metric:
    name: str
    kind: str
    labels: frozenset[str]
    # On CloudWatch, besides `service`.
    dimensions: frozenset[str]
    services: frozenset[str]
    bounds: tuple[float, ...]

    @property
    def series(self) -> frozenset[str]:
        """The names under which Prometheus has its values."""
        if self.kind == "Histogram":
            return frozenset(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return frozenset({self.name})

    def labels_of(self, series: str) -> frozenset[str]:
        """Those of one of its series. Every series has the service, so the list does not repeat it."""
        return self.labels | {"service"} | ({"le"} if series.endswith("_bucket") else set())


def words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def read() -> dict[str, Metric]:
    bounds = {name: tuple(map(float, numbers.split(","))) for name, numbers in BOUNDS.findall((SOURCE / "definition.rs").read_text(encoding="utf-8"))}
    found = parse((SOURCE / "list.rs").read_text(encoding="utf-8"), bounds)
    return {metric.name: metric for metric in found}


def parse(text: str, bounds: dict[str, tuple[float, ...]]) -> list[Metric]:
    found = [
        Metric(
            name=entry["name"],
            kind=entry["kind"],
            labels=words(entry["labels"]),
            dimensions=words(entry["dimensions"]),
            services=words(entry["services"]),
            bounds=bounds[entry["buckets"]] if entry["buckets"] else (),
        )
        for entry in ENTRY.finditer(text)
    ]
    constants = len(re.findall(r"^    [A-Z_]+: (?:Counter|Gauge|Histogram)\b", text, re.MULTILINE))
    if not found or len(found) != constants:
        raise ValueError(f"{SOURCE}/list.rs: {len(found)} of {constants} metrics could be read")
    return found


def by_series(listed: Mapping[str, Metric]) -> dict[str, Metric]:
    return {name: metric for metric in listed.values() for name in metric.series}
