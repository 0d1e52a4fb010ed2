"""Breaks the list on purpose, one thing at a time: each must be noticed, or a check cannot fail."""

import copy
import unittest

import alerts
import check
from alerts import Row
from metrics import read

LISTED = alerts.load()
METRICS = read()


def row(listed: Row, name: str) -> Row:
    return next(one for one in [*listed["alerts"], *listed["slos"]] if one["name"] == name)


class Check(unittest.TestCase):
    def notices(self, expected: str, alert: str, /, **changes: object) -> None:
        """`changes` are set in a copy of the row; a name with two underscores is a path."""
        listed = copy.deepcopy(LISTED)
        changed = row(listed, alert)
        for path, value in changes.items():
            *folders, last = path.split("__")
            target = changed
            for folder in folders:
                target = target[folder]
            target[last] = value
        found = list(check.problems(listed, METRICS))
        self.assertTrue(any(expected in problem for problem in found), found)

    def test_a_good_list_has_no_problem(self) -> None:
        self.assertEqual(list(check.problems(LISTED, METRICS)), [])

    def test_names(self) -> None:
        self.notices("no metric is called dead_letter_total", "dead-letters", prometheus__expr="sum(dead_letter_total) > 0")
        self.notices("has no label cause", "dead-letters", prometheus__expr='dead_letters_total{cause="x"} > 0')
        self.notices("has the label cause", "dead-letters", prometheus__expr="sum by (cause) (dead_letters_total) > 0")
        self.notices("query does not write", "dead-letters", prometheus__expr='dead_letters_total{service="query"} > 0')
        self.notices("no metric is called event_delay_seconds", "dead-letters", prometheus__expr="event_delay_seconds > 0")

    def test_dimensions(self) -> None:
        self.notices("has the dimensions ['status']", "dead-letters", cloudwatch__metric__dimensions={})
        self.notices("no metric is called x_total", "dead-letters", cloudwatch__metric__metric="x_total")
        self.notices("query does not write", "dead-letters", services=["query"])
        self.notices("Maximum says nothing about a counter", "dead-letters", cloudwatch__metric__statistic="Maximum")
        self.notices("no alert of scorer", "breaker-open", cloudwatch__each=[{"service": "scorer", "dimensions": {"dependency": "kafka"}}])

    def test_forms(self) -> None:
        self.notices("Prometheus needs an expression or a reason", "dead-letters", prometheus={"for": "1m"})
        self.notices("Prometheus needs an expression or a reason", "dead-letters", prometheus={"none": "x", "expr": "1"})
        self.notices("needs one of a metric", "dead-letters", cloudwatch={})
        self.notices("a reason and an alarm", "lag-unknown", cloudwatch={"none": "x", "above": 0})
        self.notices("needs missing", "dead-letters", cloudwatch__missing="")
        self.notices("needs because", "dead-letters", cloudwatch__because="")
        self.notices("either above or below", "dead-letters", cloudwatch__below=1)
        self.notices("sums need an expression", "dead-letters", cloudwatch__expression="x")
        self.notices("is no severity", "dead-letters", severity="loud")

    def test_objectives(self) -> None:
        self.notices("no bucket that ends at 0.2", "ingest-latency", below=0.2)
        self.notices("would need more bad events", "ingest-latency", objective=0.9)
        eleven = LISTED["slos"][0]["cloudwatch"]["bad"] + [{"lambda": "Errors", "statistic": "Sum"}]
        self.notices("takes ten metrics", "ingest-availability", cloudwatch__bad=eleven)

    def test_readmes(self) -> None:
        self.notices("query: its README does not have dead-letters", "dead-letters", services=["processor", "query"])
        self.notices("scorer: its README has scorer-throttled", "scorer-throttled", services=["query"])

    def test_runbook_and_names_and_tests(self) -> None:
        self.notices("has no section #nowhere", "dead-letters", runbook="nowhere")
        self.notices("two alerts are called dead-letters", "lag-growing", name="dead-letters")
        self.notices("no test sees it fire", "lag-growing", name="lag-rising")
        self.notices("a test is about lag-growing", "lag-growing", name="lag-rising")


if __name__ == "__main__":
    unittest.main()
