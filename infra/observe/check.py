"""What must hold of the list of alerts and of the tests of its rules. Prints a sentence for each thing that is wrong."""

import re
import sys
from collections.abc import Iterator, Mapping

import yaml

import alerts
import generate
from alerts import Row
from metrics import STATISTICS, Metric, by_series, read

Problems = Iterator[str]

TESTS = alerts.OBSERVE / "prometheus/tests"

SEVERITIES = {"page", "ticket"}
# What Prometheus itself adds, and what a recording rule here adds.
LABELS_OF_ALL = {"service", "instance", "slo"}

FUNCTIONS = "absent|and|by|count|histogram_quantile|increase|max|max_over_time|min|min_over_time|offset|on|or|rate|resets|sum|vector"
GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")
TEXT = r'"(?:[^"\\]|\\.)*"'
SELECTOR = re.compile(r"\b([a-z][a-z0-9_:]*)(\{(?:[^\"{}]|" + TEXT + r")*\})?")
MATCHER = re.compile(r"(\w+)(?:=~|!~|!=|=)(" + TEXT + ")")
DURATION = re.compile(r"\[[^\]]*\]|\boffset \w+")


def expressions(listed: Row) -> Iterator[tuple[str, str]]:
    """Each expression with the name of its alert or objective."""
    for alert in alerts.alerts(listed):
        if "expr" in alert.prometheus:
            yield alert.name, alert.prometheus["expr"]
    for slo in listed["slos"]:
        yield slo["name"], alerts.events(slo, "1h")
        yield slo["name"], alerts.bad_events(slo, "1h")


def selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The series of an expression, each with what its matchers say of labels."""
    for name, matchers in SELECTOR.findall(DURATION.sub("", GROUPING.sub("", expression))):
        if not re.fullmatch(FUNCTIONS, name):
            yield name, {label: value.strip('"') for label, value in MATCHER.findall(matchers)}


def names(listed: Row, metrics: Mapping[str, Metric]) -> Problems:
    """Every metric and label of an expression is in the list of metrics."""
    of_series = by_series(metrics)
    recorded = {rule["record"] for group in alerts.groups(listed) for rule in group["rules"] if "record" in rule}
    for about, expression in expressions(listed):
        used = [(name, matchers) for name, matchers in selectors(expression) if name not in recorded]
        allowed = set(LABELS_OF_ALL)
        for name, matchers in used:
            metric = of_series.get(name)
            if metric is None:
                yield f"{about}: no metric is called {name}"
                continue
            labels = metric.labels_of(name) | LABELS_OF_ALL
            allowed |= labels
            yield from (f"{about}: {name} has no label {label}" for label in matchers if label not in labels)
            for service in matchers.get("service", "").split("|"):
                if service and service not in metric.services:
                    yield f"{about}: {service} does not write {name}"
        for grouped in GROUPING.findall(expression):
            yield from (f"{about}: no metric of its expression has the label {label}" for label in re.findall(r"\w+", grouped) if label not in allowed)


def cloudwatch_metrics(form: Row) -> Iterator[Row]:
    """The metrics of a CloudWatch form, with the service and dimensions of each alarm that it makes."""
    listed = [form["metric"]] if "metric" in form else [metric for metrics in form.get("sums", {}).values() for metric in metrics]
    for one in form.get("each", [{}]):
        for metric in listed:
            yield metric | {"service": one.get("service")} | {"dimensions": metric.get("dimensions", {}) | one.get("dimensions", {})}


def dimensions(listed: Row, metrics: Mapping[str, Metric]) -> Problems:
    """Every metric of an alarm exists with exactly these dimensions, and the service writes it."""
    forms = [(row, row["cloudwatch"]) for row in listed["alerts"]] + [(slo, objective_form(slo)) for slo in listed["slos"]]
    for row, form in forms:
        for used in cloudwatch_metrics(form):
            if "lambda" in used:
                continue
            metric = metrics.get(used["metric"])
            if metric is None:
                yield f'{row["name"]}: no metric is called {used["metric"]}'
                continue
            if set(used["dimensions"]) != metric.dimensions:
                yield f"{row['name']}: {metric.name} has the dimensions {sorted(metric.dimensions)}, not {sorted(used['dimensions'])}"
            for service in [used["service"]] if used["service"] else row["services"]:
                if service not in row["services"]:
                    yield f"{row['name']}: it is no alert of {service}"
                if service not in metric.services:
                    yield f"{row['name']}: {service} does not write {metric.name}"
            if not re.fullmatch(STATISTICS[metric.kind], used["statistic"]):
                yield f"{row['name']}: {used['statistic']} says nothing about a {metric.kind.lower()}, {metric.name}"


def objective_form(slo: Row) -> Row:
    if "histogram" not in slo:
        return {"sums": slo["cloudwatch"]}
    metric = {"metric": slo["histogram"]}
    of_each = [metric | {"dimensions": each, "statistic": statistic} for each in slo["cloudwatch"]["each"] for statistic in ("SampleCount", f"TC({slo['below']}:)")]
    return {"sums": {"all": of_each}}


def forms(listed: Row) -> Problems:
    """Each row has both forms, or says why one is missing; and nothing is left to a default."""
    for row in listed["alerts"]:
        if row["severity"] not in SEVERITIES:
            yield f"{row['name']}: {row['severity']} is no severity"
        keys = row["prometheus"].keys()
        if keys - {"for"} != {"expr"} and keys != {"none"}:
            yield f"{row['name']}: Prometheus needs an expression or a reason, and has {sorted(keys)}"
        form = row["cloudwatch"]
        kinds = [kind for kind in ("metric", "sums", "log", "none") if form.get(kind)]
        if len(kinds) != 1:
            yield f"{row['name']}: CloudWatch needs one of a metric, sums, a log filter and a reason, and has {kinds}"
        if kinds == ["none"]:
            if form.keys() != {"none"}:
                yield f"{row['name']}: it has a reason and an alarm"
            continue
        yield from (f"{row['name']}: CloudWatch needs {field}" for field in ("period", "periods", "missing", "because") if not form.get(field))
        if ("above" in form) == ("below" in form):
            yield f"{row['name']}: an alarm rings either above or below a value"
        if ("sums" in form) != ("expression" in form):
            yield f"{row['name']}: sums need an expression, and one needs sums"
        count = len([metric for metrics in form.get("sums", {}).values() for metric in metrics])
        if count > 10:
            yield f"{row['name']}: an alarm takes ten metrics, and this one has {count}"
    for slo in listed["slos"]:
        count = len(objective_form(slo)["sums"].get("all", [metric for metrics in slo["cloudwatch"].values() for metric in metrics]))
        if count > 10:
            yield f"{slo['name']}: an alarm takes ten metrics, and this one has {count}"


def objectives(listed: Row, metrics: Mapping[str, Metric]) -> Problems:
    for slo in listed["slos"]:
        if "histogram" in slo and slo["below"] not in metrics[slo["histogram"]].bounds:
            yield f"{slo['name']}: {slo['histogram']} has no bucket that ends at {slo['below']}"
        for rate in listed["burn_rates"]:
            if rate["factor"] * (1 - slo["objective"]) >= 1:
                yield f"{slo['name']}-{rate['name']} would need more bad events than there are events"


def runbook(listed: Row) -> Problems:
    there = alerts.anchors((alerts.ROOT / alerts.RUNBOOK).read_text(encoding="utf-8"))
    for alert in alerts.alerts(listed):
        if alert.runbook not in there:
            yield f"{alert.name}: {alerts.RUNBOOK} has no section #{alert.runbook}"


def readme_names(markdown: str) -> set[str]:
    """The alerts that a README has under "Alarms": what stands in backquotes before the colon of each item."""
    section = re.search(r"^## Alarms\n(.*?)(?=^## |\Z)", markdown, re.MULTILINE | re.DOTALL)
    items = re.findall(r"^- ([^:]*):", section[1] if section else "", re.MULTILINE)
    return {name for item in items for name in re.findall(r"`([^`]+)`", item)}


def readmes(listed: Row) -> Problems:
    """A function's README names exactly the alerts and objectives that are about it."""
    for path in sorted(alerts.ROOT.glob("functions/*/README.md")):
        function = path.parent.name
        named = readme_names(path.read_text(encoding="utf-8"))
        expected = {row["name"] for row in [*listed["alerts"], *listed["slos"]] if function in row["services"]}
        yield from (f"{function}: its README does not have {name}" for name in sorted(expected - named))
        yield from (f"{function}: its README has {name}, which is no alert of it" for name in sorted(named - expected))


def twice(listed: Row) -> Problems:
    seen: set[str] = set()
    for alert in alerts.alerts(listed):
        if alert.name in seen:
            yield f"two alerts are called {alert.name}"
        seen.add(alert.name)


ALERT_OF_TEST = re.compile(r'ALERTS\{alertname="([^"]+)",alertstate="firing"\}')


def tests(listed: Row) -> Problems:
    """promtool runs the tests; here it is only looked whether each rule has both kinds."""
    fires: set[str] = set()
    is_silent: set[str] = set()
    for path in sorted(TESTS.glob("*.yaml")):
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for expected in test["promql_expr_test"]:
                for name in ALERT_OF_TEST.findall(expected["expr"]):
                    (fires if expected.get("exp_samples") else is_silent).add(name)
    for alert in alerts.alerts(listed):
        if "expr" in alert.prometheus:
            if alert.name not in fires:
                yield f"{alert.name}: no test sees it fire"
            if alert.name not in is_silent:
                yield f"{alert.name}: no test sees it stay silent"
    known = {alert.name for alert in alerts.alerts(listed)}
    yield from (f"a test is about {name}, which does not exist" for name in sorted((fires | is_silent) - known))


def problems(listed: Row, metrics: Mapping[str, Metric]) -> Problems:
    yield from names(listed, metrics)
    yield from dimensions(listed, metrics)
    yield from forms(listed)
    yield from objectives(listed, metrics)
    yield from runbook(listed)
    yield from readmes(listed)
    yield from twice(listed)
    yield from tests(listed)


def main() -> int:
    listed = alerts.load()
    found = [f"{path.relative_to(alerts.ROOT)} is not what alerts.yaml says: make alerts" for path in generate.stale(listed)]
    found += problems(listed, read())
    print("\n".join([*found, f"{len(alerts.alerts(listed))} alerts: {len(found)} problems"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
