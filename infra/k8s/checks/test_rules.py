"""Each rule finds the mistake it is for: the manifests are right, one thing is changed, and the rule must say so."""

import copy
import unittest
from collections.abc import Callable
from typing import Any

import rules
import schemas
from manifests import K8S, Manifests, build, with_component

Change = Callable[[Any], None]


def manifests(overlay: str) -> Manifests:
    return Manifests(copy.deepcopy(OVERLAYS[overlay]))


OVERLAYS = {
    "production": build(K8S / "overlays/production"),
    "local": build(K8S / "overlays/local"),
    "webhooks": build(with_component(K8S / "components/webhooks")),
    "stream": build(with_component(K8S / "components/stream")),
    "console": build(with_component(K8S / "components/console")),
}


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


def function(deployment: dict[str, Any]) -> dict[str, Any]:
    return pod(deployment)["initContainers"][0]


def esm(deployment: dict[str, Any]) -> dict[str, Any]:
    return pod(deployment)["containers"][0]


def server(deployment: dict[str, Any]) -> dict[str, Any]:
    return pod(deployment)["containers"][0]


def put(thing: dict[str, Any], key: str, value: Any) -> None:
    thing[key] = value


REPLICA = {"name": "DATABASE_READ_URL_FILE", "value": "/var/run/secrets/database-replica/url"}
STREAM = {"name": "STREAM", "value": "on"}
CONSOLE = {"name": "CONSOLE", "value": "on"}


def collector(url: str) -> dict[str, str]:
    return {"TRACES": "otlp", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url}


def named(policy: dict[str, Any]) -> list[str]:
    return policy["spec"]["podSelector"]["matchExpressions"][0]["values"]


def block(policy: dict[str, Any]) -> dict[str, Any]:
    return policy["spec"]["egress"][0]["to"][0]["ipBlock"]


def variable(deployment: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in server(deployment)["env"] if one["name"] == name)


def drop(thing: dict[str, Any], key: str) -> None:
    del thing[key]


FEW = "only_the_console_calls_operators_functions"

# Rule, kind and name of the object, change, and a part of the mistake.
CASES: list[tuple[str, str, str, Change, str]] = [
    ("an_autoscaler_owns_the_number", "Deployment", "ingest", lambda d: put(d["spec"], "replicas", 2), "has replicas"),
    ("an_autoscaler_owns_the_number", "Deployment", "processor", lambda d: put(d["spec"], "replicas", 2), "has replicas"),
    ("an_autoscaler_owns_the_number", "ScaledObject", "processor", lambda s: put(s["spec"]["scaleTargetRef"], "name", "query"), "both scale query"),
    ("an_autoscaler_owns_the_number", "HorizontalPodAutoscaler", "query", lambda h: put(h["spec"]["scaleTargetRef"], "name", "qury"), "does not exist"),
    ("pods_go_one_at_a_time", "PodDisruptionBudget", "processor", lambda b: put(b["spec"], "maxUnavailable", 0), "every node be drained"),
    ("pods_go_one_at_a_time", "PodDisruptionBudget", "ingest", lambda b: put(b["spec"]["selector"]["matchLabels"], "app.kubernetes.io/name", "x"), "0 disruption budgets"),
    ("pods_are_restricted", "Namespace", "forebay", lambda n: put(n["metadata"], "labels", {}), "restricted"),
    ("pods_are_restricted", "Deployment", "query", lambda d: drop(pod(d), "securityContext"), "runAsNonRoot"),
    ("pods_are_restricted", "Deployment", "query", lambda d: drop(pod(d), "automountServiceAccountToken"), "token"),
    ("pods_are_restricted", "Deployment", "query", lambda d: drop(pod(d), "enableServiceLinks"), "KAFKA_PORT"),
    ("pods_are_restricted", "Deployment", "processor", lambda d: drop(function(d), "securityContext"), "capabilities"),
    ("pods_are_restricted", "CronJob", "rescorer", lambda c: drop(pod(c["spec"]["jobTemplate"])["containers"][0]["resources"], "limits"), "limit of memory"),
    ("pods_are_restricted", "Deployment", "query", lambda d: put(server(d)["securityContext"], "readOnlyRootFilesystem", False), "can be written"),
    ("a_pod_has_time_to_end", "Deployment", "processor", lambda d: put(pod(d), "terminationGracePeriodSeconds", 60), "may need 60 s"),
    ("a_pod_has_time_to_end", "Deployment", "ingest", lambda d: drop(pod(d), "terminationGracePeriodSeconds"), "may need 55 s"),
    ("servers_wait_before_they_end", "Deployment", "ingest", lambda d: drop(server(d), "lifecycle"), "calls would be lost"),
    ("servers_wait_before_they_end", "Deployment", "scorer", lambda d: put(server(d)["lifecycle"]["preStop"]["sleep"], "seconds", 1), "calls would be lost"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "archiver-raw", lambda d: drop(function(d), "restartPolicy"), "native sidecar"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "processor", lambda d: drop(function(d), "startupProbe"), "startup probe"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "processor", lambda d: put(esm(d), "env", []), "function of its own pod"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "processor", lambda d: put(esm(d), "env", esm(d)["env"][:1]), "another PORT"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "processor", lambda d: put(esm(d), "env", esm(d)["env"][:2]), "OPERATIONS_PORT"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "processor", lambda d: drop(esm(d), "livenessProbe"), "livenessProbe of esm"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "archiver-raw", lambda d: put(esm(d)["ports"][0], "containerPort", 8080), "startupProbe of esm"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "processor", lambda d: put(esm(d), "args", ["/etc/esm/x.json"]), "no ConfigMap has x.json"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "processor", lambda d: put(esm(d), "args", ["/etc/esm/archiver-raw.json"]), "calls archiver"),
    ("a_consumer_ends_after_its_mapping", "Deployment", "archiver-outcomes", lambda d: put(esm(d), "args", ["/etc/esm/archiver-raw.json"]), "share the consumer group"),
    ("keda_reads_what_the_mapping_reads", "ScaledObject", "processor", lambda s: put(s["spec"], "minReplicaCount", 0), "nothing reads"),
    ("keda_reads_what_the_mapping_reads", "ScaledObject", "processor", lambda s: put(s["spec"], "maxReplicaCount", 7), "number of partitions, 6"),
    ("keda_reads_what_the_mapping_reads", "ScaledObject", "processor", lambda s: drop(s["spec"], "fallback"), "brokers are away"),
    ("keda_reads_what_the_mapping_reads", "ScaledObject", "processor", lambda s: put(s["spec"], "pollingInterval", 1), "too often"),
    ("keda_reads_what_the_mapping_reads", "ScaledObject", "archiver-raw", lambda s: put(s["spec"]["triggers"][0]["metadata"], "topic", "processed-events"), "not those of the mapping"),
    ("keda_reads_what_the_mapping_reads", "ScaledObject", "processor", lambda s: drop(s["spec"]["triggers"][0]["metadata"], "excludePersistentLag"), "hold replicas up"),
    ("keda_reads_what_the_mapping_reads", "ScaledObject", "processor", lambda s: drop(s["spec"]["triggers"][0], "authenticationRef"), "no login"),
    ("names_can_be_resolved", "NetworkPolicy", "nothing-else", lambda p: put(p["spec"], "policyTypes", ["Ingress"]), "refuses what the others do not name"),
    ("names_can_be_resolved", "NetworkPolicy", "dns", lambda p: p["spec"]["egress"][0]["to"].pop(), "169.254.20.10/32"),
    ("names_can_be_resolved", "NetworkPolicy", "dns", lambda p: p["spec"]["egress"][0]["to"].pop(0), "kube-dns"),
    ("names_can_be_resolved", "NetworkPolicy", "dns", lambda p: p["spec"]["egress"][0]["ports"].pop(0), "kube-dns"),
    ("policies_name_pods_that_exist", "NetworkPolicy", "scorer", lambda p: put(p["spec"]["podSelector"]["matchLabels"], "app.kubernetes.io/name", "scorr"), "scorr"),
    ("policies_name_pods_that_exist", "NetworkPolicy", "to-kafka", lambda p: named(p).append("gone"), "gone"),
    ("settings_are_read", "ConfigMap", "settings-at-deploy", lambda c: put(c["data"], "KAFKA_BROKER", "a:1"), "sets KAFKA_BROKER,"),
    ("settings_are_read", "Deployment", "processor", lambda d: put(function(d)["env"][0], "name", "FUNCTION_TIMEOUT"), "sets FUNCTION_TIMEOUT,"),
    ("the_job_has_the_same_settings", "ConfigMap", "settings-at-deploy", lambda c: put(c["data"], "DEDUP_STORE", "x"), "not the same"),
    ("the_job_has_the_same_settings", "Job", "maintainer-", lambda j: put(function(j)["envFrom"][0], "configMapRef", {"name": "settings-1"}), "cannot change"),
    ("images_have_one_version", "Deployment", "query", lambda d: put(server(d), "image", "forebay/query:0.0.9"), "is not version"),
    ("images_have_one_version", "Deployment", "query", lambda d: put(server(d), "image", "forebay/querry:0.1.0"), "nothing builds"),
    ("images_have_one_version", "Deployment", "query", lambda d: put(server(d), "image", "nginx:latest"), "no exact tag"),
    ("images_have_one_version", "Job", "maintainer-", lambda j: put(j["metadata"], "name", "maintainer"), "its name must end"),
    ("ports_agree", "Deployment", "query", lambda d: put(server(d)["ports"][0], "containerPort", 80), "the settings say"),
    ("ports_agree", "Deployment", "query", lambda d: put(server(d)["livenessProbe"]["httpGet"], "path", "/health"), "/health, which"),
    ("ports_agree", "Deployment", "query", lambda d: put(server(d)["livenessProbe"]["httpGet"], "port", "operations"), "another port"),
    ("ports_agree", "Service", "query", lambda s: put(s["spec"]["ports"][0], "targetPort", "web"), "no pod behind it has"),
    ("ports_agree", "CronJob", "maintainer", lambda c: put(server(c["spec"]["jobTemplate"])["args"], 1, "maintain"), "calls none"),
    ("ports_agree", "CronJob", "maintainer", lambda c: put(server(c["spec"]["jobTemplate"])["env"][1], "value", "http://127.0.0.1:8080"), "calls none"),
    ("ports_agree", "Service", "maintainer", lambda s: put(s["spec"]["ports"][0], "port", 80), "calls none"),
    ("ports_agree", "Service", "query", lambda s: put(s["spec"]["selector"], "app.kubernetes.io/name", "x"), "selects no pod"),
    ("the_scorer_is_where_it_is_called", "Service", "scorer", lambda s: put(s["spec"]["ports"][0], "port", 80), "calls the scorer"),
    ("the_scorer_is_where_it_is_called", "CronJob", "rescorer", lambda c: put(function(c["spec"]["jobTemplate"]), "env", []), "calls the scorer"),
    ("secrets_go_to_those_who_read_them", "Deployment", "query", lambda d: drop(server(d), "volumeMounts"), "mounts [], but reads ['database']"),
    ("secrets_go_to_those_who_read_them", "Deployment", "ingest", lambda d: server(d)["volumeMounts"].append({"name": "database"}), "but reads ['kafka']"),
    ("secrets_go_to_those_who_read_them", "ConfigMap", "settings-", lambda c: put(c["data"], "ACCESS_STORE", "postgres"), "but reads ['database', 'kafka']"),
    ("secrets_go_to_those_who_read_them", "Deployment", "query", lambda d: put(server(d), "env", [REPLICA]), "but reads ['database', 'database-replica']"),
    ("secrets_go_to_those_who_read_them", "ConfigMap", "settings-", lambda c: put(c["data"], REPLICA["name"], REPLICA["value"]), "but reads ['database', 'database-replica']"),
    ("secrets_go_to_those_who_read_them", "Deployment", "query", lambda d: server(d)["volumeMounts"].append({"name": "database-replica"}), "but reads ['database']"),
    ("secrets_go_to_those_who_read_them", "Deployment", "query", lambda d: put(server(d), "env", [STREAM]), "mounts ['database'], but reads ['database', 'kafka']"),
    ("secrets_go_to_those_who_read_them", "ConfigMap", "settings-", lambda c: put(c["data"], "STREAM", "on"), "mounts ['database'], but reads ['database', 'kafka']"),
    ("secrets_go_to_those_who_read_them", "Deployment", "query", lambda d: server(d)["volumeMounts"].append({"name": "kafka"}), "mounts ['database', 'kafka'], but reads ['database']"),
    ("files_that_are_named_are_mounted", "Deployment", "query", lambda d: put(server(d), "env", [REPLICA]), "which it does not mount"),
    ("what_is_read_can_be_reached", "NetworkPolicy", "to-kafka", lambda p: named(p).remove("aggregator"), "CronJob/aggregator uses kafka"),
    ("what_is_read_can_be_reached", "NetworkPolicy", "to-postgres", lambda p: named(p).remove("aggregator"), "CronJob/aggregator uses database"),
    ("what_is_read_can_be_reached", "Deployment", "query", lambda d: put(server(d), "env", [STREAM]), "Deployment/query uses kafka"),
    (FEW, "Deployment", "query", lambda d: put(server(d), "env", [CONSOLE]), "Deployment/query has a console, but no network policy"),
    (FEW, "NetworkPolicy", "maintainer", lambda p: p["spec"]["ingress"][0]["from"].append({"podSelector": {}}), "Deployment/maintainer lets CronJob/rescorer in"),
    ("replicas_are_spread", "Deployment", "processor", lambda d: pod(d)["topologySpreadConstraints"].pop(), "not spread"),
    ("traces_have_a_way", "ConfigMap", "settings-", lambda c: put(c["data"], "TRACES", "xray"), "Deployment/scorer sends traces, but"),
    ("traces_have_a_way", "ConfigMap", "settings-", lambda c: put(c["data"], "TRACES", "otlp"), "no setting names the collector"),
    ("traces_have_a_way", "ConfigMap", "settings-", lambda c: c["data"].update(collector("http://jaeger:4318/v1/traces")), "reach http://jaeger:4318"),
    ("traces_have_a_way", "ConfigMap", "settings-", lambda c: c["data"].update(collector("http://a.b.svc:4318/v1/traces")), "reach http://a.b.svc:4318"),
    ("metrics_keep_their_labels", "ServiceMonitor", "forebay", lambda m: drop(m["spec"]["endpoints"][0], "honorLabels"), "exported_service"),
]

# The same with webhooks, which no overlay has.
WEBHOOK_CASES: list[tuple[str, str, str, Change, str]] = [
    ("files_that_are_named_are_mounted", "Deployment", "maintainer", lambda d: drop(server(d), "volumeMounts"), "webhooks/key, which it"),
    ("webhooks_stay_out_of_the_cluster", "NetworkPolicy", "notifier-to-webhooks", lambda p: drop(p["spec"]["egress"][0], "to"), "into private networks"),
    ("webhooks_stay_out_of_the_cluster", "NetworkPolicy", "notifier-to-webhooks", lambda p: block(p)["except"].pop(), "into private networks"),
    ("webhooks_stay_out_of_the_cluster", "NetworkPolicy", "notifier-to-webhooks", lambda p: put(p["spec"], "egress", []), "no network policy lets it reach"),
    ("what_is_read_can_be_reached", "NetworkPolicy", "notifier-to-postgres", lambda p: named(p).remove("notifier"), "Deployment/notifier uses database"),
    ("what_is_read_can_be_reached", "NetworkPolicy", "notifier-to-kafka", lambda p: put(p["spec"], "egress", []), "notifier-outcomes uses kafka"),
    ("ports_agree", "Service", "notifier", lambda s: put(s["spec"]["ports"][0], "port", 80), "CronJob/notifier runs no function, and calls none"),
]

# The same with streams, which are off in every overlay.
STREAM_CASES: list[tuple[str, str, str, Change, str]] = [
    ("secrets_go_to_those_who_read_them", "Deployment", "query", lambda d: server(d)["volumeMounts"].pop(0), "mounts ['database'], but reads ['database', 'kafka']"),
    ("secrets_go_to_those_who_read_them", "Deployment", "query", lambda d: put(server(d)["env"][0], "value", "off"), "mounts ['database', 'kafka'], but reads ['database']"),
    ("what_is_read_can_be_reached", "NetworkPolicy", "query-to-kafka", lambda p: put(p["spec"], "egress", []), "Deployment/query uses kafka"),
]

# The same with the console, which is off in every overlay.
CONSOLE_CASES: list[tuple[str, str, str, Change, str]] = [
    ("files_that_are_named_are_mounted", "Deployment", "query", lambda d: server(d)["volumeMounts"].pop(0), "console/key, which it does not mount"),
    ("servers_wait_before_they_end", "Deployment", "redriver", lambda d: drop(server(d), "lifecycle"), "calls would be lost"),
    (FEW, "Deployment", "query", lambda d: variable(d, "CONSOLE_KEY_FILE").update(name="CONSOLE_SESSION_MIN"), "no key that signs"),
    (FEW, "Deployment", "query", lambda d: variable(d, "REDRIVER_URL").update(value="http://127.0.0.1:8080"), "its console calls redriver"),
    (FEW, "Service", "redriver", lambda s: put(s["spec"]["ports"][0], "port", 80), "its console calls redriver"),
    (FEW, "Deployment", "query", lambda d: variable(d, "CONSOLE").update(value="off"), "lets it reach maintainer"),
    (FEW, "NetworkPolicy", "console-to-functions", lambda p: put(p["spec"], "egress", []), "no network policy lets it reach redriver"),
    (FEW, "NetworkPolicy", "console", lambda p: named(p).remove("redriver"), "none of redriver lets it in"),
    (FEW, "NetworkPolicy", "console", lambda p: drop(p["spec"]["ingress"][0], "from"), "Deployment/redriver lets Deployment/processor in"),
]

BY_OVERLAY = {"production": CASES, "webhooks": WEBHOOK_CASES, "stream": STREAM_CASES, "console": CONSOLE_CASES}


class Rules(unittest.TestCase):
    def test_every_rule_finds_its_mistake(self) -> None:
        for overlay, rule, kind, start, change, expected in [(overlay, *case) for overlay, cases in BY_OVERLAY.items() for case in cases]:
            with self.subTest(rule=rule, expected=expected):
                changed = manifests(overlay)
                change(next(one for one in changed.of(kind) if one["metadata"]["name"].startswith(start)))
                found = list(getattr(rules, rule)(changed))
                self.assertTrue(any(expected in mistake for mistake in found), found)

    def test_every_rule_has_a_case(self) -> None:
        self.assertEqual({rule.__name__ for rule in rules.RULES}, {case[0] for cases in BY_OVERLAY.values() for case in cases})

    def test_what_is_right_passes(self) -> None:
        for overlay in OVERLAYS:
            self.assertEqual(rules.mistakes(manifests(overlay)), [])


class Schemas(unittest.TestCase):
    def test_a_field_that_nobody_knows_is_found(self) -> None:
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": 1}}
        self.assertIn("port", schemas.mistakes([service], None)[0])

    def test_a_custom_resource_has_a_schema(self) -> None:
        spec = {"type": "object", "properties": {"a": {"type": "string"}}}
        schema = schemas.strict({"type": "object", "properties": {"apiVersion": {}, "kind": {}, "metadata": {}, "spec": spec}})
        known = {("keda.sh/v1", "A"): schema}
        for value, expected in (({"a": "x"}, 0), ({"a": 1}, 1), ({"b": "x"}, 1)):
            thing = {"apiVersion": "keda.sh/v1", "kind": "A", "metadata": {"name": "a"}, "spec": value}
            self.assertEqual(len(schemas.mistakes([thing], known)), expected, value)
        unknown = {"apiVersion": "keda.sh/v1", "kind": "B", "metadata": {"name": "b"}}
        self.assertIn("nothing defines", schemas.mistakes([unknown], known)[0])


if __name__ == "__main__":
    unittest.main()
