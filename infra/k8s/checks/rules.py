"""What the manifests promise each other and the code. Each rule yields its mistakes as sentences."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from manifests import Manifests, Object, Workload, environment, functions, image, name, selects

ROOT = Path(__file__).resolve().parents[3]
Mistakes = Iterator[str]

# FUNCTION_TIMEOUT_SEC of shared/lambda, in seconds.
DEFAULT_TIMEOUT = 60
# The longest wait for open work and then for Kafka's producer: DRAIN_TIMEOUT and FLUSH_TIMEOUT of shared/lambda.
DRAIN = 25
# TOPIC_PARTITIONS of maintainer.
DEFAULT_PARTITIONS = 6
# By the secret with the login there: the port on which the service listens unless somebody chose another.
SERVICE_PORTS = {"kafka": 9092, "database": 5432, "database-replica": 5432}
# Functions whose calls end within DRAIN.
SHORT_CALLS = {"ingest", "query", "scorer"}
# They do what operators ask, and know no keys.
CALLED_BY_THE_CONSOLE = ("maintainer", "redriver")
PRIVATE_V4 = {"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"}
# All global unicast addresses, and no others.
PUBLIC_V6 = "2000::/3"
# The node's own DNS cache.
NODE_LOCAL_DNS = "169.254.20.10/32"


def an_autoscaler_owns_the_number(all_: Manifests) -> Mistakes:
    owned: dict[str, str] = {}
    for scaler, target in all_.autoscaled():
        deployment = all_.get("Deployment", target)
        if deployment is None:
            yield f"{name(scaler)} scales {target}, which does not exist"
        elif "replicas" in deployment["spec"]:
            yield f"{name(deployment)} has replicas, which {name(scaler)} owns: every apply would change the number"
        if target in owned:
            yield f"{name(scaler)} and {owned[target]} both scale {target}"
        owned[target] = name(scaler)


def pods_go_one_at_a_time(all_: Manifests) -> Mistakes:
    for pods in our_deployments(all_):
        budgets = [one for one in all_.of("PodDisruptionBudget") if selects(one["spec"]["selector"], pods.labels)]
        if len(budgets) != 1:
            yield f"{pods.name} has {len(budgets)} disruption budgets, not one"
        for budget in budgets:
            if budget["spec"].get("maxUnavailable") != 1 or "minAvailable" in budget["spec"]:
                yield f"{name(budget)}: only maxUnavailable: 1 lets every node be drained"


def pods_are_restricted(all_: Manifests) -> Mistakes:
    level = "pod-security.kubernetes.io/enforce"
    for namespace in all_.of("Namespace"):
        if namespace["metadata"].get("labels", {}).get(level) != "restricted":
            yield f"{name(namespace)} does not enforce the Pod Security level restricted"
    for pods in all_.workloads():
        context = pods.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{pods.name}: its pods need runAsNonRoot and the seccomp profile RuntimeDefault"
        if pods.spec.get("automountServiceAccountToken") is not False:
            yield f"{pods.name}: its pods get a token of the API server, which nothing here calls"
        if pods.spec.get("enableServiceLinks") is not False:
            yield f"{pods.name}: a Service's name would become settings (KAFKA_PORT and the like)"
        for container in pods.containers:
            yield from container_is_restricted(pods, container)


def container_is_restricted(pods: Workload, container: Object) -> Mistakes:
    where = f"{pods.name}, container {container['name']}"
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{where}: it must drop ALL capabilities and allow no privilege escalation"
    if pods.is_ours and context.get("readOnlyRootFilesystem") is not True:
        yield f"{where}: its root file system can be written"
    resources = container.get("resources", {})
    if "memory" not in resources.get("limits", {}) or not {"cpu", "memory"} <= resources.get("requests", {}).keys():
        yield f"{where}: it needs requests of cpu and memory, and a limit of memory"


def a_pod_has_time_to_end(all_: Manifests) -> Mistakes:
    for pods in our_workloads(all_):
        grace = pods.spec.get("terminationGracePeriodSeconds", 30)
        function = pods.function
        if function is None:
            continue
        work = DRAIN if function["name"] in SHORT_CALLS else max(DRAIN, timeout(function))
        needed = pre_stop(function) + work
        if grace <= needed:
            yield f"{pods.name}: {grace} s to end, but it may need {needed} s"


def pre_stop(container: Object) -> int:
    return container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)


def timeout(container: Object) -> int:
    return int(environment(container).get("FUNCTION_TIMEOUT_SEC", DEFAULT_TIMEOUT))


def servers_wait_before_they_end(all_: Manifests) -> Mistakes:
    for pods in our_deployments(all_):
        behind = [one for one in all_.of("Service") if is_balanced(one) and selects({"matchLabels": one["spec"]["selector"]}, pods.labels)]
        if behind and not all(pre_stop(one) >= 5 for one in pods.spec["containers"]):
            yield f"{pods.name} is behind {name(behind[0])} and ends without a preStop sleep: calls would be lost"


def is_balanced(service: Object) -> bool:
    return service["spec"].get("clusterIP") != "None"


def a_consumer_ends_after_its_mapping(all_: Manifests) -> Mistakes:
    groups: dict[str, str] = {}
    for pods in our_deployments(all_):
        mapping_program = pods.container("esm")
        if mapping_program is None:
            continue
        function = pods.function
        sidecars = [one for one in pods.spec.get("initContainers", []) if one.get("restartPolicy") == "Always"]
        if function is None or function not in sidecars:
            yield f"{pods.name}: the function must be a native sidecar (an init container that restarts Always)"
            continue
        if "startupProbe" not in function:
            yield f"{pods.name}: without a startup probe, esm starts before the function is ready"
        port = next(one["containerPort"] for one in function["ports"] if one["name"] == "http")
        if environment(mapping_program).get("AWS_ENDPOINT_URL_LAMBDA") != f"http://127.0.0.1:{port}":
            yield f"{pods.name}: esm does not call the function of its own pod, http://127.0.0.1:{port}"
        if environment(mapping_program).get("PORT") in (None, str(port)):
            yield f"{pods.name}: esm needs another PORT than the function, {port}"
        metrics = environment(mapping_program).get("OPERATIONS_PORT")
        if metrics is None or metrics in (str(one["containerPort"]) for one in function["ports"]):
            yield f"{pods.name}: esm needs an OPERATIONS_PORT of its own, because the containers of a pod share their ports"
        probed = {one["name"]: str(one["containerPort"]) for one in mapping_program.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe"):
            if probed.get(mapping_program.get(probe, {}).get("tcpSocket", {}).get("port")) != environment(mapping_program).get("PORT"):
                yield f"{pods.name}: the {probe} of esm does not ask its PORT"
        for file in mapping_program["args"]:
            mapping = all_.mapping(Path(file).name)
            if mapping is None:
                yield f"{pods.name}: no ConfigMap has {Path(file).name}"
                continue
            if mapping["FunctionName"] != function["name"]:
                yield f"{file} calls {mapping['FunctionName']}, but its pod has {function['name']}"
            group = group_of(mapping)
            if group in groups:
                yield f"{pods.name} and {groups[group]} share the consumer group {group}"
            groups[group] = pods.name


def group_of(mapping: Object) -> str:
    return mapping["AmazonManagedKafkaEventSourceConfig"]["ConsumerGroupId"]


def keda_reads_what_the_mapping_reads(all_: Manifests) -> Mistakes:
    most = int(all_.settings().get("TOPIC_PARTITIONS", DEFAULT_PARTITIONS))
    for scaler in all_.of("ScaledObject"):
        spec = scaler["spec"]
        if spec.get("minReplicaCount", 0) < 1:
            yield f"{name(scaler)}: without a replica nothing reads"
        if spec.get("maxReplicaCount") != most:
            yield f"{name(scaler)}: maxReplicaCount must be the number of partitions, {most}"
        if spec.get("fallback", {}).get("behavior") != "currentReplicas":
            yield f"{name(scaler)}: while brokers are away, the number must stay as it is (fallback)"
        if spec.get("pollingInterval", 0) < 10:
            yield f"{name(scaler)}: it asks the brokers too often"
        mapping = all_.mapping(f"{spec['scaleTargetRef']['name']}.json")
        for trigger in spec["triggers"]:
            data = trigger["metadata"]
            if mapping is None or ([data["topic"]], data["consumerGroup"]) != (mapping["Topics"], group_of(mapping)):
                yield f"{name(scaler)}: its topic and group are not those of the mapping of that name"
            if data.get("excludePersistentLag") != "true":
                yield f"{name(scaler)}: a partition that does not get on would hold replicas up"
            if "authenticationRef" not in trigger:
                yield f"{name(scaler)}: KEDA has no login of its own"


def names_can_be_resolved(all_: Manifests) -> Mistakes:
    policies = [one["spec"] for one in all_.of("NetworkPolicy")]
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if everything not in policies:
        yield "no network policy refuses what the others do not name"
    ports = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
    rules = [rule for one in policies if one["podSelector"] == {} for rule in one.get("egress", []) if rule.get("ports") == ports]
    peers = [peer for rule in rules for peer in rule.get("to", [])]
    for pod in ("kube-dns", "node-local-dns"):
        if not any(selects(peer.get("podSelector", {}), {"k8s-app": pod}) for peer in peers if "podSelector" in peer):
            yield f"no network policy lets every pod ask {pod}"
    if not any(peer.get("ipBlock", {}).get("cidr") == NODE_LOCAL_DNS for peer in peers):
        yield f"no network policy lets every pod ask the node's own DNS cache, {NODE_LOCAL_DNS}"


def policies_name_pods_that_exist(all_: Manifests) -> Mistakes:
    known = {pods.labels["app.kubernetes.io/name"] for pods in all_.workloads()}
    for policy in all_.of("NetworkPolicy"):
        named = set(re.findall(r"'app.kubernetes.io/name': '([\w-]+)'", str(policy["spec"])))
        for listed in re.findall(r"'app.kubernetes.io/name', 'operator': 'In', 'values': \[([^\]]*)\]", str(policy["spec"])):
            named |= set(re.findall(r"[\w-]+", listed))
        for unknown in sorted(named - known):
            yield f"{name(policy)} names {unknown}, which no pod is called"


def settings_are_read(all_: Manifests) -> Mistakes:
    known = set(re.findall(r"(?m)^#?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text()))
    for config in all_.of("ConfigMap"):
        if config["metadata"]["name"].startswith("settings"):
            for unknown in sorted(config["data"].keys() - known):
                yield f"{name(config)} sets {unknown}, which no function reads"
    for pods in our_workloads(all_):
        for container in pods.containers:
            variables = environment(container)
            used = "".join(variables.values())
            for unknown in sorted(variables.keys() - known):
                if f"$({unknown})" not in used:
                    yield f"{pods.name}, container {container['name']} sets {unknown}, which no function reads"


def the_job_has_the_same_settings(all_: Manifests) -> Mistakes:
    at_deploy = all_.get("ConfigMap", "settings-at-deploy")
    if at_deploy is None or at_deploy["data"] != all_.settings():
        yield "ConfigMap/settings-at-deploy is not the same as the settings of the pods"
    for job in (pods for pods in all_.workloads() if pods.owner["kind"] == "Job"):
        sources = [one["configMapRef"]["name"] for c in job.containers for one in c["envFrom"] if "configMapRef" in one]
        if set(sources) != {"settings-at-deploy"}:
            yield f"{job.name} has settings whose name changes with them, but a Job's template cannot change"


def images_have_one_version(all_: Manifests) -> Mistakes:
    version = all_.get("ConfigMap", "version")["data"]["version"]
    known = functions() | {"esm", "services", "stack"}
    for pods in all_.workloads():
        for container in pods.containers:
            ours, tag = image(container)
            where = f"{pods.name}, container {container['name']}"
            if container["image"].startswith("forebay/") and ours not in known:
                yield f"{where}: nothing builds {container['image']}"
            if ours and tag != version:
                yield f"{where}: {container['image']} is not version {version}"
            if not re.fullmatch(r"[\w.-]*\d[\w.-]*", tag):
                yield f"{where}: {container['image']} has no exact tag"
    for job in all_.of("Job"):
        if not job["metadata"]["name"].endswith(f"-{version}"):
            yield f"{name(job)}: a Job's template cannot change, so its name must end in -{version}"


def called_by(pods: Workload, all_: Manifests) -> str | None:
    """The function that its only program calls, `esm invoke NAME`, if its address leads to the function of that name."""
    [caller, *others] = pods.containers
    match caller.get("args"):
        case ["invoke", function, *_] if not others:
            address = environment(caller).get("AWS_ENDPOINT_URL_LAMBDA")
            return function if address in addresses_of(function, all_) else None
    return None


def addresses_of(function: str, all_: Manifests) -> list[str]:
    """Where Services lead to the Invoke API of a function."""
    return [
        f"http://{service['metadata']['name']}.$(POD_NAMESPACE).svc.cluster.local:{port['port']}"
        for service in all_.of("Service")
        if any(selects({"matchLabels": service["spec"]["selector"]}, pods.labels) for pods in deployments_of(function, all_))
        for port in service["spec"]["ports"]
    ]


def deployments_of(function: str, all_: Manifests) -> list[Workload]:
    return [pods for pods in our_deployments(all_) if pods.function and pods.function["name"] == function]


def ports_agree(all_: Manifests) -> Mistakes:
    settings = all_.settings()
    expected = {"http": int(settings["PORT"]), "operations": int(settings["OPERATIONS_PORT"])}
    for pods in our_workloads(all_):
        function = pods.function
        if function is None:
            if called_by(pods, all_) is None:
                yield f"{pods.name} runs no function, and calls none that a Service of these manifests leads to"
            continue
        found = {one["name"]: one["containerPort"] for one in function.get("ports", [])}
        if found != expected:
            yield f"{pods.name}: its ports are {found}, but the settings say {expected}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if function.get(probe, {}).get("httpGet", {}).get("port", "http") != "http":
                yield f"{pods.name}: its {probe} asks another port than http"
    served = (ROOT / "shared/lambda/src/plain.rs").read_text()
    paths = {probe["httpGet"]["path"] for pods in our_workloads(all_) for c in pods.containers for key, probe in c.items() if key.endswith("Probe") and "httpGet" in probe}
    for path in sorted(paths):
        if f'.route("{path}"' not in served:
            yield f"a probe asks for {path}, which shared/lambda does not serve"
    for service in all_.of("Service"):
        behind = [pods for pods in all_.workloads() if selects({"matchLabels": service["spec"]["selector"]}, pods.labels)]
        if not behind:
            yield f"{name(service)} selects no pod"
        ports = {one["name"] for pods in behind for c in pods.containers for one in c.get("ports", [])}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"{name(service)} leads to the port {port['targetPort']}, which no pod behind it has"


def the_scorer_is_where_it_is_called(all_: Manifests) -> Mistakes:
    scorer = all_.get("Service", "scorer")
    port = scorer["spec"]["ports"][0]["port"] if scorer else None
    address = f"http://scorer.$(POD_NAMESPACE).svc.cluster.local:{port}"
    for pods in our_workloads(all_):
        function = pods.function
        if function and reads_scorer(function["name"]) and environment(function).get("AWS_ENDPOINT_URL_LAMBDA") != address:
            yield f"{pods.name}: {function['name']} calls the scorer, which is at {address}"


def reads_scorer(function: str) -> bool:
    return "scorer_function(" in (ROOT / f"functions/{function}/src/config.rs").read_text()


def secrets_go_to_those_who_read_them(all_: Manifests) -> Mistakes:
    for pods in our_workloads(all_):
        for container in pods.containers:
            mounted = {one["name"] for one in container.get("volumeMounts", [])} & SERVICE_PORTS.keys()
            needed = secrets_of(container, pods, all_.settings())
            if mounted != needed:
                yield f"{pods.name}, container {container['name']} mounts {sorted(mounted)}, but reads {sorted(needed)}"


def secrets_of(container: Object, pods: Workload, settings: dict[str, str]) -> set[str]:
    program = image(container)[0]
    if program == "esm":
        return {"kafka"} if pods.owner["kind"] == "Deployment" else set()
    config = (ROOT / f"functions/{program}/src/config.rs").read_text()
    types = [("kafka", "KafkaConfig"), ("database", "PostgresConfig")]
    if settings.get("ACCESS_STORE") == "postgres":
        types.append(("database", "AccessConfig"))
    variables = settings | environment(container)
    secrets = {secret for secret, type_ in types if f"{type_}::from_settings" in config and is_on(switch_of(type_, config), variables)}
    reads_replica = "DATABASE_READ_URL_FILE" in variables
    return secrets | ({"database-replica"} if reads_replica and "::replica_from_settings" in config else set())


def switch_of(type_: str, config: str) -> str | None:
    """The setting, off by default, without which the settings of a type are not read."""
    found = re.search(rf'settings\.choice\("(\w+)", \w+::Off\) {{[^{{}}]*::On => {{[^}}]*{type_}::from_settings', config)
    return found and found[1]


def is_on(switch: str | None, variables: dict[str, str]) -> bool:
    return switch is None or variables.get(switch) == "on"


def files_that_are_named_are_mounted(all_: Manifests) -> Mistakes:
    """Those that a container names itself: the settings of all name files that only some of them read."""
    for pods in our_workloads(all_):
        for container in pods.containers:
            folders = {one["mountPath"] for one in container.get("volumeMounts", [])}
            for variable, file in environment(container).items():
                if variable.endswith("_FILE") and str(Path(file).parent) not in folders:
                    yield f"{pods.name}, container {container['name']} reads {file}, which it does not mount"


def webhooks_stay_out_of_the_cluster(all_: Manifests) -> Mistakes:
    """Tenants choose what the notifier calls."""
    for pods in our_workloads(all_):
        if pods.function is None or pods.function["name"] != "notifier":
            continue
        policies = policies_of(pods, all_)
        peers = [
            rule.get("to") for policy in policies for rule in policy.get("egress", []) if {"protocol": "TCP", "port": 443} in rule.get("ports", [])
        ]
        if not peers:
            yield f"{pods.name}: no network policy lets it reach an endpoint, on port 443"
        for peer in (peer for listed in peers for peer in listed or [{}]):
            block = peer.get("ipBlock", {})
            if block.get("cidr") != PUBLIC_V6 and (block.get("cidr") != "0.0.0.0/0" or not PRIVATE_V4 <= set(block.get("except", []))):
                yield f"{pods.name}: a URL of a tenant may lead it into private networks"


def only_the_console_calls_operators_functions(all_: Manifests) -> Mistakes:
    """Who reaches them may do everything: they ask for no key. Without a console, query changes nothing."""
    for pods in deployments_of("query", all_):
        variables = all_.settings() | environment(pods.function)
        is_on = variables.get("CONSOLE") == "on"
        if is_on and "CONSOLE_KEY_FILE" not in variables:
            yield f"{pods.name} has a console, and no key that signs its sessions"
        for function in CALLED_BY_THE_CONSOLE:
            if is_on and variables.get(f"{function.upper()}_URL") not in addresses_of(function, all_):
                yield f"{pods.name}: its console calls {function}, which is at {addresses_of(function, all_)}"
            for called in deployments_of(function, all_):
                if is_on and not (sends(pods, called, all_) and admits(called, pods, all_)):
                    yield f"{pods.name} has a console, but no network policy lets it reach {function}, or none of {function} lets it in"
                if not is_on and (sends(pods, called, all_) or admits(called, pods, all_)):
                    yield f"{pods.name} has no console, and a network policy lets it reach {function}"
    for function in CALLED_BY_THE_CONSOLE:
        for called in deployments_of(function, all_):
            for other in our_workloads(all_):
                expected = other.function["name"] == "query" if other.function else called_by(other, all_) == function
                if not expected and admits(called, other, all_):
                    yield f"{called.name} lets {other.name} in, which has no need to call it"


def sends(pods: Workload, to: Workload, all_: Manifests) -> bool:
    """Whether an egress rule of those pods leads to the others' port of HTTP."""
    return any(leads_by_http(rule, "to", to) for policy in policies_of(pods, all_) for rule in policy.get("egress", []))


def admits(pods: Workload, from_: Workload, all_: Manifests) -> bool:
    """Whether an ingress rule of those pods lets the others in to their port of HTTP."""
    return any(leads_by_http(rule, "from", from_) for policy in policies_of(pods, all_) for rule in policy.get("ingress", []))


def leads_by_http(rule: Object, side: str, pods: Workload) -> bool:
    """A rule without pods or without ports is for all of them."""
    of_pods = side not in rule or any("podSelector" in peer and selects(peer["podSelector"], pods.labels) for peer in rule[side])
    return of_pods and ("ports" not in rule or any(port["port"] == "http" for port in rule["ports"]))


def policies_of(pods: Workload, all_: Manifests) -> list[Object]:
    return [one["spec"] for one in all_.of("NetworkPolicy") if selects(one["spec"]["podSelector"], pods.labels)]


def what_is_read_can_be_reached(all_: Manifests) -> Mistakes:
    for pods in our_workloads(all_):
        policies = policies_of(pods, all_)
        reached = {port["port"] for policy in policies for rule in policy.get("egress", []) for port in rule.get("ports", [])}
        needed = {secret for container in pods.containers for secret in secrets_of(container, pods, all_.settings())}
        for secret in sorted(needed):
            if SERVICE_PORTS[secret] not in reached:
                yield f"{pods.name} uses {secret}, but no network policy lets it reach port {SERVICE_PORTS[secret]}"


def replicas_are_spread(all_: Manifests) -> Mistakes:
    for pods in our_deployments(all_):
        keys = {one["topologyKey"] for one in pods.spec.get("topologySpreadConstraints", [])}
        if keys != {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}:
            yield f"{pods.name}: its replicas are not spread over nodes and zones"


def metrics_keep_their_labels(all_: Manifests) -> Mistakes:
    """The rules of infra/observe tell functions apart by the label `service`, which the operator sets, too."""
    for monitor in all_.of("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            if not endpoint.get("honorLabels"):
                yield f"{name(monitor)}: the metrics' label `service` would become `exported_service`"


def traces_have_a_way(all_: Manifests) -> Mistakes:
    settings = all_.settings()
    match settings.get("TRACES", "off"):
        case "xray":
            lacking = "no network policy lets it reach X-Ray, on port 443"
            collector = None
        case "otlp":
            url = settings.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            if url is None:
                yield "TRACES=otlp, and no setting names the collector"
                return
            lacking = f"no network policy lets it reach {url}"
            collector = urlsplit(url)
        case _:
            return
    for pods in our_workloads(all_):
        policies = policies_of(pods, all_)
        rules = [rule for policy in policies for rule in policy.get("egress", [])]
        if pods.function and not any(leads_to(rule, collector, all_) for rule in rules):
            yield f"{pods.name} sends traces, but {lacking}"


def leads_to(rule: Object, collector: SplitResult | None, all_: Manifests) -> bool:
    """Whether an egress rule leads to a collector in the cluster, or to what has no fixed address."""
    if collector is None:
        return "to" not in rule and {"protocol": "TCP", "port": 443} in rule["ports"]
    service, *namespace = collector.hostname.split(".")[:2]
    if namespace:
        peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace[0]}}}
        return peer in rule.get("to", []) and {"protocol": "TCP", "port": collector.port} in rule["ports"]
    here = all_.get("Service", service)
    behind = [pods for pods in all_.workloads() if here and selects({"matchLabels": here["spec"]["selector"]}, pods.labels)]
    named = {port["name"] for pods in behind for c in pods.containers for port in c["ports"] if port["containerPort"] == collector.port}
    selectors = [peer["podSelector"] for peer in rule.get("to", []) if "podSelector" in peer]
    reached = any(selects(selector, pods.labels) for selector in selectors for pods in behind)
    policies = [one["spec"] for one in all_.of("NetworkPolicy") if any(selects(one["spec"]["podSelector"], pods.labels) for pods in behind)]
    admitted = any(port["port"] in named for policy in policies for one in policy.get("ingress", []) for port in one.get("ports", []))
    return reached and admitted and ("ports" not in rule or any(port["port"] in named for port in rule["ports"]))


def our_workloads(all_: Manifests) -> list[Workload]:
    return [pods for pods in all_.workloads() if pods.is_ours]


def our_deployments(all_: Manifests) -> list[Workload]:
    return [pods for pods in our_workloads(all_) if pods.owner["kind"] == "Deployment"]


RULES: list[Callable[[Manifests], Mistakes]] = [
    an_autoscaler_owns_the_number,
    pods_go_one_at_a_time,
    pods_are_restricted,
    a_pod_has_time_to_end,
    servers_wait_before_they_end,
    a_consumer_ends_after_its_mapping,
    keda_reads_what_the_mapping_reads,
    names_can_be_resolved,
    policies_name_pods_that_exist,
    settings_are_read,
    the_job_has_the_same_settings,
    images_have_one_version,
    ports_agree,
    the_scorer_is_where_it_is_called,
    secrets_go_to_those_who_read_them,
    files_that_are_named_are_mounted,
    webhooks_stay_out_of_the_cluster,
    only_the_console_calls_operators_functions,
    what_is_read_can_be_reached,
    replicas_are_spread,
    metrics_keep_their_labels,
    traces_have_a_way,
]


def mistakes(all_: Manifests) -> list[str]:
    return [mistake for rule in RULES for mistake in rule(all_)]
