"""What must hold of a query, given the metrics that exist."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import promql
import promql_parser
import places  # noqa: F401, where metrics is
from metrics import Metric

Expression = promql_parser.Expr

# Grafana puts durations in place of these names; no query has such durations itself.
RANGES = {promql.RATE_RANGE: "4m1s", promql.WHOLE_RANGE: "1h1s"}
# They keep all labels, though the parser counts them among the aggregations.
CHOOSING = {"topk", "bottomk"}
GROWTH = {"rate", "increase"}


def parse(query: str) -> Expression:
    for name, duration in RANGES.items():
        query = query.replace(name, duration)
    return promql_parser.parse(query)


def parts(expression: Expression) -> list[Expression]:
    match expression:
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            return [expression.expr]
        case promql_parser.BinaryExpr():
            return [expression.lhs, expression.rhs]
        case promql_parser.Call():
            return list(expression.args)
        case promql_parser.MatrixSelector():
            return [expression.vector_selector]
        case promql_parser.VectorSelector() | promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return []
    raise ValueError(f"the checks do not know the form of {expression}")


def below(expression: Expression, above: tuple[Expression, ...] = ()) -> Iterator[tuple[Expression, tuple[Expression, ...]]]:
    """Every part of an expression, with the parts that it stands in, the nearest last."""
    yield expression, above
    for part in parts(expression):
        yield from below(part, (*above, expression))


def selectors(expression: Expression) -> list[promql_parser.VectorSelector]:
    return [part for part, _ in below(expression) if isinstance(part, promql_parser.VectorSelector)]


def is_vector(expression: Expression) -> bool:
    if isinstance(expression, promql_parser.ParenExpr):
        return is_vector(expression.expr)
    if isinstance(expression, promql_parser.BinaryExpr):
        return is_vector(expression.lhs) or is_vector(expression.rhs)
    return bool(selectors(expression)) and not (isinstance(expression, promql_parser.Call) and expression.func.name == "scalar")


def labels(expression: Expression, metrics: dict[str, Metric]) -> frozenset[str]:
    """The labels that each series of the result has."""
    match expression:
        case promql_parser.VectorSelector():
            series = expression.name or ""
            return metrics[series].labels_of(series) if series in metrics else frozenset()
        case promql_parser.AggregateExpr() if str(expression.op) not in CHOOSING:
            if expression.modifier and expression.modifier.type != promql_parser.AggModifierType.By:
                raise ValueError("the checks know `by` and not `without`, which keeps labels that a metric gets later")
            return frozenset(expression.modifier.labels if expression.modifier else ())
        case promql_parser.Call() if expression.func.name == "histogram_quantile":
            return labels(expression.args[1], metrics) - {"le"}
        case promql_parser.Call() if expression.func.name == "label_replace":
            return labels(expression.args[0], metrics) | {expression.args[1].val}
        case promql_parser.BinaryExpr():
            sides = [labels(side, metrics) for side in parts(expression) if is_vector(side)]
            return frozenset.intersection(*sides)
    return frozenset().union(*(labels(part, metrics) for part in parts(expression) if is_vector(part)))


def names_exist(expression: Expression, metrics: dict[str, Metric]) -> Iterator[str]:
    for selector in selectors(expression):
        # A selector may do without a name, and then asks for anything.
        series = selector.name or "without a name"
        metric = metrics.get(series)
        if metric is None:
            yield f"there is no series {series}"
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name not in metric.labels_of(series):
                yield f"{series} has no label {matcher.name}"
            if matcher.name == "service" and matcher.op == promql_parser.MatchOp.Equal and matcher.value not in metric.services:
                yield f"{matcher.value} does not write {series}"


def groups_exist(expression: Expression, metrics: dict[str, Metric]) -> Iterator[str]:
    for part, _ in below(expression):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier:
            for unknown in sorted(set(part.modifier.labels) - labels(part.expr, metrics)):
                yield f"it groups by {unknown}, which {part.expr.prettify().strip()} does not have"


def growth_is_of_counters(expression: Expression, metrics: dict[str, Metric]) -> Iterator[str]:
    """A counter's value says nothing by itself, and a gauge may fall."""
    for part, above in below(expression):
        if not isinstance(part, promql_parser.VectorSelector) or part.name not in metrics:
            continue
        grows = any(isinstance(one, promql_parser.Call) and one.func.name in GROWTH for one in above)
        counts_series = any(isinstance(one, promql_parser.AggregateExpr) and str(one.op) == "count" for one in above)
        is_gauge = metrics[part.name].kind == "Gauge"
        if is_gauge and grows:
            yield f"{part.name} is a gauge, and has no rate"
        if not is_gauge and not grows and not counts_series:
            yield f"{part.name} is a counter: only its rate or increase means something"


def ranges_are_grafanas(expression: Expression, _: dict[str, Metric]) -> Iterator[str]:
    known: set[timedelta] = {promql_parser.parse_duration(duration) for duration in RANGES.values()}
    for part, _above in below(expression):
        if isinstance(part, promql_parser.MatrixSelector) and part.range not in known:
            yield f"the range of {part.prettify().strip()} is neither of {', '.join(RANGES)}"


def quantiles_are_of_buckets(expression: Expression, metrics: dict[str, Metric]) -> Iterator[str]:
    for part, _ in below(expression):
        if (
            isinstance(part, promql_parser.Call)
            and part.func.name == "histogram_quantile"
            and "le" not in labels(part.args[1], metrics)
        ):
            yield "histogram_quantile needs the label le"


def sides_match(expression: Expression, metrics: dict[str, Metric]) -> Iterator[str]:
    """Prometheus pairs series with equal labels. With other labels the result is empty, and not an error."""
    for part, _ in below(expression):
        if isinstance(part, promql_parser.BinaryExpr) and all(is_vector(side) for side in parts(part)):
            left, right = (sorted(labels(side, metrics)) for side in parts(part))
            if left != right:
                yield f"the sides of {part.op} have the labels {left} and {right}"


Rule = Callable[[Expression, dict[str, Metric]], Iterator[str]]

RULES: list[Rule] = [names_exist, groups_exist, growth_is_of_counters, ranges_are_grafanas, quantiles_are_of_buckets, sides_match]


def mistakes(query: str, metrics: dict[str, Metric]) -> list[str]:
    try:
        expression = parse(query)
        return [mistake for rule in RULES for mistake in rule(expression, metrics)]
    except ValueError as error:
        return [f"it cannot be read: {error}"]
