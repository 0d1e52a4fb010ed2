"""The metrics of shared/telemetry/src/list.rs, which is where they are defined."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LIST = ROOT / "shared/telemetry/src/list.rs"

# As the macro `metrics!` of the list takes them.
ENTRY = re.compile(
    r"^    [A-Z][A-Z0-9_]*: (?P<kind>Counter|Gauge|Histogram)(?:\(\w+\))? in \w+ "
    r'"(?P<name>\w+)" \{(?P<labels>[^}]*)\} dimensions \{(?P<dimensions>[^}]*)\} of \[(?P<services>[^\]]+)\];$',
    re.MULTILINE,
)

# Every series has it, so the list does not repeat it.
SERVICE = "service"

# What Prometheus makes of a histogram.
PARTS_OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")


@dataclass(frozen=True)
class Metric:
    name: str
    kind: str
    labels: frozenset[str]
    dimensions: tuple[str, ...]
    services: tuple[str, ...]

    @property
    def series(self) -> frozenset[str]:
        """The names under which Prometheus has its values."""
        parts = PARTS_OF_A_HISTOGRAM if self.kind == "Histogram" else ("",)
        return frozenset(self.name + part for part in parts)

    def labels_of(self, series: str) -> frozenset[str]:
        return self.labels | {SERVICE} | ({"le"} if series.endswith("_bucket") else set())


def words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text))


def parse(text: str) -> list[Metric]:
    found = [
        Metric(
            name=entry["name"],
            kind=entry["kind"],
            labels=frozenset(words(entry["labels"])),
            dimensions=words(entry["dimensions"]),
            services=words(entry["services"]),
        )
        for entry in ENTRY.finditer(text)
    ]
    # A form that the pattern does not know would leave a metric out without a word.
    if not found or len(found) != len(re.findall(r"\} dimensions \{[\w, ]*\} of", text)):
        raise ValueError(f"{LIST.relative_to(ROOT)} has entries in a form that metric_list.py does not read")
    return found


def read() -> list[Metric]:
    return parse(LIST.read_text(encoding="utf-8"))
