"""The forms of PromQL that the dashboards use."""

# Grafana puts a range here that holds at least four scrapes, so that a rate never falls into a gap.
RATE_RANGE = "$__rate_interval"
# What the viewer has chosen to look at.
WHOLE_RANGE = "$__range"

# All of a dashboard's services, or those that the viewer has picked.
PICKED = 'service=~"$service"'


def both(*conditions: str) -> str:
    return ", ".join(filter(None, conditions))


def selector(metric: str, where: str = "") -> str:
    return f"{metric}{{{where}}}" if where else metric


def grouped(operator: str, by: str, expression: str) -> str:
    return f"{operator} by ({by}) ({expression})" if by else f"{operator}({expression})"


def rate(metric: str, by: str = "", where: str = "") -> str:
    """By the second, over all instances."""
    return grouped("sum", by, f"rate({selector(metric, where)}[{RATE_RANGE}])")


def increase(metric: str, by: str = "", where: str = "", over: str = RATE_RANGE) -> str:
    return grouped("sum", by, f"increase({selector(metric, where)}[{over}])")


def total(metric: str, by: str = "", where: str = "") -> str:
    """In the whole time that is looked at."""
    return increase(metric, by, where, WHOLE_RANGE)


def quantile(q: float, histogram: str, by: str = "", where: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    buckets = rate(f"{histogram}_bucket", labels, where)
    return f"histogram_quantile({q}, {buckets})"


def share(part: str, whole: str) -> str:
    return f"{part} / {whole}"


def mean(histogram: str, by: str = "", where: str = "") -> str:
    return share(rate(f"{histogram}_sum", by, where), rate(f"{histogram}_count", by, where))


def below(histogram: str, bound: str, by: str = "", where: str = "") -> str:
    """The share of the observations up to a bound of the histogram's buckets, exactly."""
    within = rate(f"{histogram}_bucket", by, both(where, f'le="{bound}"'))
    return share(within, rate(f"{histogram}_count", by, where))


# Every esm process reports the lag of every partition of its group, so sums would count it once for each.
LAG_OF_PARTITIONS = "max by (group, topic, partition) (queue_lag)"


def lag(by: str = "") -> str:
    return grouped("sum", by, LAG_OF_PARTITIONS)
