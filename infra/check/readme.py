"""What a function's README promises about its deployment."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/README.md"))

# Every function reads them, so the tables leave them out.
OF_ALL = {"LOG_LEVEL", "METRICS_NAMESPACE", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_SAMPLER_ARG", "TRACES", "TRACE_USER_ID"}


# Named among the actions, and none.
CONDITION_KEYS = {"dynamodb:LeadingKeys"}


@dataclass(frozen=True)
class Readme:
    settings: frozenset[str]
    required: frozenset[str]
    permissions: frozenset[str]
    alarms: tuple[str, ...]


def section(text: str, heading: str) -> str:
    """The text below a heading of the second level, up to the next one."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"no section {heading}")
    return found[1]


def bullets(text: str) -> tuple[str, ...]:
    """The items of a list, each on one line."""
    items = re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE)
    return tuple(re.sub(r"\s+", " ", item) for item in items)


def read(function: str) -> Readme:
    text = (ROOT / "functions" / function / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|(.*)\|$", text, re.MULTILINE)
    return Readme(
        settings=frozenset(name for name, _ in rows) | OF_ALL,
        # The others that are needed depend on a choice: `assertions.py` knows them.
        required=frozenset(name for name, rest in rows if rest.split("|")[-1].strip() == "required"),
        permissions=frozenset(re.findall(r"`([a-z0-9-]+:[A-Z][A-Za-z0-9]+|rds-db:connect)`", section(text, "Permissions"))) - CONDITION_KEYS,
        alarms=bullets(section(text, "Alarms")),
    )
