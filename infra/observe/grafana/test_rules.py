"""Each rule of rules.py finds its mistake, in a committed dashboard that was broken on purpose."""

import copy
import json
import unittest
from collections.abc import Callable

import check
import generate
import rules
from grafana_foundation_sdk.cog import plugins

import metrics

MADE = {file.stem: json.loads(content) for file, content in check.committed().items()}
METRICS = metrics.by_series(metrics.read())

Change = Callable[[rules.Json], None]


def first_panel(dashboard: rules.Json) -> rules.Json:
    return next(panel for panel in dashboard["panels"] if panel["type"] != "row")


class Rules(unittest.TestCase):
    def found(self, change: Change) -> list[str]:
        made = copy.deepcopy(MADE)
        change(made["flow"])
        return rules.mistakes(rules.Dashboards(made, METRICS))

    def assert_found(self, change: Change, *mistakes: str) -> None:
        for mistake in mistakes:
            self.assertIn(mistake, self.found(change))

    def test_the_dashboards_pass(self) -> None:
        self.assertEqual(self.found(lambda flow: None), [])

    def test_a_bad_query(self) -> None:
        def change(flow: rules.Json) -> None:
            first_panel(flow)["targets"][0]["expr"] = "max(nothing)"

        self.assert_found(change, "flow, Events received in this time: there is no series nothing")

    def test_a_bad_legend(self) -> None:
        def change(flow: rules.Json) -> None:
            panel = next(panel for panel in flow["panels"] if panel["title"] == "Lag, by group and topic")
            panel["targets"][0]["legendFormat"] = "{{group}} {{partition}}"

        where = "flow, Lag, by group and topic"
        self.assert_found(
            change,
            f"{where}: the legend names partition, which the result does not have",
            f"{where}: lines differ by topic, which the legend does not name",
        )
        self.assert_found(
            lambda flow: first_panel(flow)["targets"][0].pop("legendFormat"),
            "flow, Events received in this time: a query has no legend",
        )

    def test_a_panel_that_explains_nothing(self) -> None:
        self.assert_found(lambda flow: first_panel(flow).update(title=""), "flow: the panel 2 has no title")
        self.assert_found(
            lambda flow: first_panel(flow).update(description="Events."),
            "flow, Events received in this time: the description does not say **Healthy:**",
            "flow, Events received in this time: the description does not say **Sick:**",
        )
        self.assert_found(
            lambda flow: first_panel(flow)["fieldConfig"]["defaults"].pop("unit"),
            "flow, Events received in this time: it has no unit",
        )

    def test_a_title_that_is_there_twice(self) -> None:
        self.assert_found(
            lambda flow: first_panel(flow).update(title="Records that wait"), "flow: two panels have the title Records that wait"
        )

    def test_a_section_that_does_not_exist(self) -> None:
        def change(flow: rules.Json) -> None:
            first_panel(flow)["description"] += " See docs/runbook.md, No such thing."

        self.assert_found(change, "flow, Events received in this time: docs/runbook.md has no section No such thing")

    def test_a_data_source_that_nobody_chose(self) -> None:
        self.assert_found(
            lambda flow: first_panel(flow)["targets"][0]["datasource"].update(uid="mine"),
            "flow, Events received in this time: the query does not ask the data source that was chosen",
        )

    def test_variables(self) -> None:
        def unused(flow: rules.Json) -> None:
            flow["templating"]["list"].append({"name": "service", "query": "label_values(queue_lag, function)"})

        def not_made(flow: rules.Json) -> None:
            first_panel(flow)["targets"][0]["expr"] = 'sum(rate(events_received_total{service=~"$service"}[$__rate_interval]))'

        self.assert_found(
            unused,
            "flow: the variable service is not used",
            "flow: the variable service asks for label_values(queue_lag, function), which does not exist",
        )
        self.assert_found(not_made, "flow: the variable service is not made")

    def test_panels_in_one_place(self) -> None:
        self.assert_found(
            lambda flow: first_panel(flow)["gridPos"].update(x=1),
            "flow, Records that wait: it lies over Events received in this time",
        )
        self.assert_found(
            lambda flow: first_panel(flow)["gridPos"].update(x=20),
            "flow, Events received in this time: it is beyond the right edge",
        )

    def test_a_metric_that_nobody_shows(self) -> None:
        def change(flow: rules.Json) -> None:
            flow["panels"] = [panel for panel in flow["panels"] if panel["title"] != "Groups whose lag is unknown"]

        self.assertEqual(self.found(change), ["no dashboard shows queue_lag_known"])

    def test_a_dashboard_that_the_playbook_lacks(self) -> None:
        self.assert_found(
            lambda flow: flow.update(title="Forebay: streams"), "docs/monitoring.md has no section for the dashboard flow"
        )


class Files(unittest.TestCase):
    def test_a_file_that_is_not_what_the_generator_makes(self) -> None:
        file = generate.FOLDER / "flow.json"
        message = "flow.json is not what the generator makes: run `make dashboards`"
        self.assertEqual(check.stale({file: "a"}, {file: "b"}), [message])
        self.assertEqual(check.stale({}, {file: "b"}), [message])
        self.assertEqual(check.stale({file: "a"}, {}), [message])
        self.assertEqual(check.stale({file: "a"}, {file: "a"}), [])

    def test_what_is_no_dashboard(self) -> None:
        plugins.register_default_plugins()
        self.assertEqual(check.misfits("flow", MADE["flow"]), [])
        odd = copy.deepcopy(MADE["flow"])
        first_panel(odd)["units"] = "s"
        self.assertEqual(check.misfits("flow", odd), ['flow does not fit Grafana\'s types: ["$.panels[1].units"]'])

    def test_an_entry_of_the_list_in_another_form(self) -> None:
        entry = '    A_TOTAL: Counter in Count "a_total" {type} dimensions {} of [esm];\n'
        self.assertEqual([metric.name for metric in metrics.parse(entry, {})], ["a_total"])
        with self.assertRaises(ValueError):
            metrics.parse(entry + entry.replace("in Count", "Count"), {})


if __name__ == "__main__":
    unittest.main()
