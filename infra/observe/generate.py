"""Writes the rules of Prometheus, and those of its operator on Kubernetes, from alerts.yaml. Usage: generate.py"""

from pathlib import Path
from typing import Any

import yaml

import alerts

MADE = "# Made from infra/observe/alerts.yaml by `make alerts`.\n"
RULES = alerts.OBSERVE / "prometheus/rules.yaml"
OPERATOR = alerts.ROOT / "infra/k8s/components/prometheus-rule/prometheus-rule.yaml"


class Dumper(yaml.SafeDumper):
    """Texts of several lines as such, and lists indented as in the other files."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None))


def text(content: Any) -> str:
    return MADE + yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def made(listed: alerts.Row) -> dict[Path, str]:
    """What each file has to hold."""
    operator = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "forebay"},
        "spec": {"groups": alerts.groups(listed)},
    }
    return {RULES: text({"groups": alerts.groups(listed)}), OPERATOR: text(operator)}


def stale(listed: alerts.Row) -> list[Path]:
    return [path for path, content in made(listed).items() if not path.exists() or path.read_text(encoding="utf-8") != content]


def main() -> None:
    listed = alerts.load()
    for path in stale(listed):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made(listed)[path], encoding="utf-8")
        print(f"wrote {path.relative_to(alerts.ROOT)}")


if __name__ == "__main__":
    main()
