"""The alarms of a plan, the list of metrics, and the list of alerts: each alarm is on a metric that exists, and none is missing."""

import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from plans import Plan, Resource, Values

sys.path.append(str(Path(__file__).resolve().parents[1] / "observe"))

import alerts as observed
from metrics import Metric, read

METRICS = read()
LISTED = observed.load()
# The dimension that every metric has.
SERVICE = "service"


@dataclass(frozen=True)
class Watched:
    """A metric that an alarm watches."""

    namespace: str
    name: str
    dimensions: dict[str, str]
    period: int


def watched(values: Values) -> Watched:
    return Watched(values["namespace"], values["metric_name"], values["dimensions"] or {}, values["period"])


def metrics(alarm: Resource) -> list[Watched]:
    if alarm.values["metric_name"]:
        return [watched(alarm.values)]
    return [watched(Values(metric)) for query in alarm.values["metric_query"] for metric in query["metric"]]


def prefix(plan: Plan) -> str:
    return plan.functions()["ingest"]["function_name"].removesuffix("-ingest")


def names(plan: Plan) -> Iterator[str]:
    """CloudWatch tells nobody of an alarm whose metric does not exist: it has no data for ever."""
    namespaces = {name: environment.get("METRICS_NAMESPACE") for name, environment in plan.environments().items()}
    of_logs = {filter.values["metric_transformation"][0]["name"] for filter in plan.of("aws_cloudwatch_log_metric_filter")}
    for alarm in plan.of("aws_cloudwatch_metric_alarm"):
        for metric in metrics(alarm):
            if metric.name in of_logs or metric.namespace.startswith("AWS/"):
                continue
            yield from (f"{alarm.address}: {problem}" for problem in mistakes(metric, METRICS.get(metric.name), namespaces))


def mistakes(metric: Watched, listed: Metric | None, namespaces: dict[str, str | None]) -> Iterator[str]:
    if listed is None:
        yield f"no metric is called {metric.name}"
        return
    expected = listed.dimensions | {SERVICE}
    if metric.dimensions.keys() != expected:
        yield f"{metric.name} has the dimensions {sorted(expected)}, not {sorted(metric.dimensions)}"
    service = metric.dimensions.get(SERVICE, "")
    if service not in listed.services:
        yield f"{service} does not write {metric.name}"
    if metric.namespace != namespaces.get(service):
        yield f"{service} writes into the namespace {namespaces.get(service)}, not {metric.namespace}"


SEARCH = re.compile(r"""SEARCH\('\{"([^"]+)",([\w,]+)\} MetricName="(\w+)"'""")


def pictures(plan: Plan) -> Iterator[str]:
    """A dashboard shows an empty picture for a metric that does not exist."""
    namespaces = set(environment.get("METRICS_NAMESPACE") for environment in plan.environments().values())
    for dashboard in plan.of("aws_cloudwatch_dashboard"):
        body = dashboard.values["dashboard_body"].replace(r"\"", '"')
        searches = SEARCH.findall(body)
        if len(searches) != body.count("SEARCH("):
            yield f"{dashboard.address}: a search cannot be read"
        for namespace, dimensions, name in searches:
            listed = METRICS.get(name)
            if listed is None:
                yield f"{dashboard.address}: no metric is called {name}"
            elif set(dimensions.split(",")) != listed.dimensions | {SERVICE}:
                yield f"{dashboard.address}: {name} has not the dimensions {dimensions}"
            if namespaces != {namespace}:
                yield f"{dashboard.address}: nobody writes into {namespace}"


def complete(plan: Plan) -> Iterator[str]:
    """Every row of the list that has a form for CloudWatch has its alarms."""
    made = {alarm.values["alarm_name"] for kind in ("metric", "composite") for alarm in plan.of(f"aws_cloudwatch_{kind}_alarm")}
    for name in expected(plan.functions().keys()):
        if f"{prefix(plan)}-{name}" not in made:
            yield f"the alert {name} has no alarm"


def expected(functions: Collection[str]) -> Iterator[str]:
    for row in LISTED["alerts"]:
        form = row["cloudwatch"]
        if "none" in form:
            continue
        for one in form.get("each", [{"service": service} for service in row["services"]]):
            # One that is switched off has no alarms.
            if one["service"] not in functions:
                continue
            service = [one["service"]] if len(row["services"]) > 1 else []
            yield "-".join([row["name"], *service, *one.get("dimensions", {}).values()])
    yield from (f'{slo["name"]}-{rate["name"]}' for slo in LISTED["slos"] for rate in LISTED["burn_rates"])
