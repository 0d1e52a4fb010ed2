"""Each rule of queries.py finds its mistake."""

import unittest

import queries
import places  # noqa: F401, where metrics is
from metrics import Metric


def metric(name: str, kind: str, *labels: str, services: tuple[str, ...] = ("processor",)) -> Metric:
    return Metric(name, kind, frozenset(labels), frozenset(), frozenset(services), ())


METRICS = {
    name: one
    for one in (
        metric("events_total", "Counter", "type"),
        metric("hits_total", "Counter"),
        metric("lag", "Gauge", "group", services=("esm",)),
        metric("time_seconds", "Histogram", "step"),
    )
    for name in one.series
}


class Queries(unittest.TestCase):
    def assert_good(self, query: str) -> None:
        self.assertEqual(queries.mistakes(query, METRICS), [])

    def assert_wrong(self, query: str, mistake: str) -> None:
        self.assertEqual(queries.mistakes(query, METRICS), [mistake])

    def test_good_queries_pass(self) -> None:
        self.assert_good('sum by (type) (rate(events_total{service=~"$service"}[$__rate_interval]))')
        self.assert_good("1000 * sum(increase(hits_total[$__range])) / scalar(sum(increase(events_total[$__range])))")
        self.assert_good("histogram_quantile(0.9, sum by (step, le) (rate(time_seconds_bucket[$__rate_interval])))")
        self.assert_good("topk(3, max by (group) (lag))")
        self.assert_good('label_replace(count(count by (service) (hits_total)), "metric", "hits_total", "", "")')

    def test_what_is_no_query_is_found(self) -> None:
        found = queries.mistakes("sum(rate(events_total[$__rate_interval])", METRICS)
        self.assertEqual([mistake.split(":")[0] for mistake in found], ["it cannot be read"])

    def test_without_is_refused(self) -> None:
        reason = "the checks know `by` and not `without`, which keeps labels that a metric gets later"
        self.assert_wrong("sum by (service) (max without (group) (lag))", f"it cannot be read: {reason}")

    def test_unknown_series_are_found(self) -> None:
        self.assert_wrong("max(lags)", "there is no series lags")
        self.assert_wrong("sum(rate(time_seconds[$__rate_interval]))", "there is no series time_seconds")
        self.assert_wrong('max({service="esm"})', "there is no series without a name")

    def test_unknown_labels_are_found(self) -> None:
        self.assert_wrong('max(lag{topic="a"})', "lag has no label topic")
        self.assert_wrong('max(lag{service="processor"})', "processor does not write lag")
        self.assert_wrong("max by (topic) (lag)", "it groups by topic, which lag does not have")
        twice = "sum by (type) (sum by (service) (rate(events_total[$__rate_interval])))"
        self.assertIn("it groups by type, which", queries.mistakes(twice, METRICS)[0])

    def test_counters_are_not_shown_as_they_are(self) -> None:
        self.assert_wrong("sum(events_total)", "events_total is a counter: only its rate or increase means something")
        self.assert_wrong("sum(rate(lag[$__rate_interval]))", "lag is a gauge, and has no rate")

    def test_ranges_of_ones_own_are_found(self) -> None:
        self.assert_wrong("sum(rate(hits_total[5m]))", "the range of hits_total[5m] is neither of $__rate_interval, $__range")

    def test_quantiles_without_buckets_are_found(self) -> None:
        self.assert_wrong(
            "histogram_quantile(0.9, sum by (step) (rate(time_seconds_bucket[$__rate_interval])))",
            "histogram_quantile needs the label le",
        )

    def test_sides_that_do_not_match_are_found(self) -> None:
        self.assert_wrong(
            "sum by (type) (rate(events_total[$__rate_interval])) / sum(rate(hits_total[$__rate_interval]))",
            "the sides of / have the labels ['type'] and []",
        )


if __name__ == "__main__":
    unittest.main()
