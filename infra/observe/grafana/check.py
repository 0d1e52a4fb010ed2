"""Checks the dashboards: they are what the generator makes, fit the types of the SDK, and keep the rules. Usage: check.py"""

import json
import sys
from pathlib import Path

import generate
import places  # noqa: F401, where metrics is
import rules
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

import metrics


def committed() -> dict[Path, str]:
    return {file: file.read_text(encoding="utf-8") for file in generate.FOLDER.glob("*.json")}


def stale(files: dict[Path, str], made: dict[Path, str]) -> list[str]:
    differing = sorted(file.name for file in files.keys() | made.keys() if files.get(file) != made.get(file))
    return [f"{name} is not what the generator makes: run `make dashboards`" for name in differing]


def misfits(name: str, dashboard: rules.Json) -> list[str]:
    """What Grafana's types do not know gets lost when they read the dashboard and write it again."""
    try:
        again = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"{name} does not fit Grafana's types: {error!r}"]
    return (
        [] if again == dashboard else [f"{name} does not fit Grafana's types: {json.dumps(difference(dashboard, again))[:300]}"]
    )


def difference(one: object, other: object, path: str = "$") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for key in sorted(one.keys() | other.keys())
            for found in difference(one.get(key), other.get(key), f"{path}.{key}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [found for index, pair in enumerate(zip(one, other)) for found in difference(*pair, f"{path}[{index}]")]
    return [] if one == other else [path]


def main() -> int:
    plugins.register_default_plugins()
    files = committed()
    found = stale(files, generate.files())
    made = {file.stem: json.loads(content) for file, content in sorted(files.items())}
    for name, dashboard in made.items():
        found += misfits(name, dashboard)
    all_ = rules.Dashboards(made, metrics.by_series(metrics.read()))
    found += rules.mistakes(all_)
    print("\n".join(found), end="\n" if found else "")
    print(
        f"{len(made)} dashboards, {len(list(all_.panels()))} panels, {len(list(all_.targets()))} queries: {len(found)} mistakes"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
