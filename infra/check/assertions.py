"""What must hold of every plan. Each check yields a sentence for each thing that is wrong."""

import json
import re
from typing import Any, Callable, Iterator

import alarms as alarms_of_plan
import archive_tables
import readme
from plans import Plan, Resource

Problems = Iterator[str]

# Lambda allows 14 minutes behind an event source mapping; API Gateway waits 30 seconds.
LONGEST = {"processor": 840, "archiver": 840, "notifier": 840, "ingest": 29, "query": 29}
LONGEST_OF_LAMBDA = 900

ENDLESS = -1
MOST_ATTEMPTS = 10_000

# They take no ARN, as AWS's Service Authorization Reference has it: allowed on one only, they are denied.
WITHOUT_ARN = {
    "dynamodb:DescribeEndpoints",
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ec2:UnassignPrivateIpAddresses",
    "kafka:GetBootstrapBrokers",
    "xray:PutSpans",
    "xray:PutSpansForIndexing",
    "xray:PutTraceSegments",
}
SEND_TRACES = {action for action in WITHOUT_ARN if action.startswith("xray:")}

# Of every function, by what Lambda does with its role; the READMEs name them once or not at all.
BY_LAMBDA = {"logs:CreateLogStream", "logs:PutLogEvents"} | {action for action in WITHOUT_ARN if action.startswith("ec2:")}

RETENTION_DAYS = {"raw/": 30, "outcomes/": 90, "quarantine/": 365, "parked/": 365}

SECRETS = {"CONSOLE_KEY", "DATABASE_READ_URL", "DATABASE_URL", "DB_PASSWORD", "KAFKA_SASL_PASSWORD", "WEBHOOK_KEY"}
WAY_OUT = "HTTPS to what lies outside"
TO_BROKERS = "Kafka brokers"

CONSOLE_ROUTES = {f"{method} {path}" for method in ("GET", "POST") for path in ("/console", "/console/{page+}")}

SECRET_ATTRIBUTES = {"password", "password_wo", "master_password", "secret_string", "private_key", "secret_key"}


def one(values: list[Any]) -> dict[str, Any]:
    """The only block of its kind; without one, a block that has nothing."""
    return values[0] if values else {}


def encryption(plan: Plan) -> Problems:
    buckets = plan.of("aws_s3_bucket")
    for kind in ("server_side_encryption_configuration", "versioning", "public_access_block", "policy", "ownership_controls"):
        if len(plan.of(f"aws_s3_bucket_{kind}")) != len(buckets):
            yield f"not every bucket has its {kind}"
    for block in plan.of("aws_s3_bucket_public_access_block"):
        for name in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"):
            if not block.values[name]:
                yield f"{block.address}: {name} is off"
    for policy in plan.of("aws_s3_bucket_policy"):
        if '"aws:SecureTransport":"false"' not in policy.values["policy"] or '"Effect":"Deny"' not in policy.values["policy"]:
            yield f"{policy.address} does not refuse plain HTTP"
    for versioning in plan.of("aws_s3_bucket_versioning"):
        if one(versioning.values["versioning_configuration"]).get("status") != "Enabled":
            yield f"{versioning.address} is off"
    for database in plan.of("aws_db_instance"):
        if not database.values["storage_encrypted"]:
            yield f"{database.address} is not encrypted"
        if database.values["publicly_accessible"]:
            yield f"{database.address} can be reached from outside"
        # A replica has the owner of its primary, with the password.
        if not (database.values["manage_master_user_password"] or database.values["replicate_source_db"]):
            yield f"{database.address}: RDS does not manage the password"
    for group in plan.of("aws_db_parameter_group"):
        if {"name": "rds.force_ssl", "value": "1"} not in [{key: p[key] for key in ("name", "value")} for p in group.values["parameter"]]:
            yield f"{group.address} allows connections without TLS"
    for proxy in plan.of("aws_db_proxy"):
        if not proxy.values["require_tls"]:
            yield f"{proxy.address} allows connections without TLS"
    for cluster in plan.of("aws_msk_cluster"):
        transit = one(one(cluster.values["encryption_info"]).get("encryption_in_transit", []))
        if transit.get("client_broker") != "TLS" or not transit.get("in_cluster"):
            yield f"{cluster.address} allows connections without TLS"
        login = one(cluster.values["client_authentication"])
        if login.get("unauthenticated") is not False or not one(login.get("sasl", [])).get("iam"):
            yield f"{cluster.address} can be used without IAM"
    for table in plan.of("aws_dynamodb_table"):
        if not one(table.values["server_side_encryption"]).get("enabled"):
            yield f"{table.address} is not encrypted with a key of KMS"
    for topic in plan.of("aws_sns_topic"):
        if not topic.values["kms_master_key_id"]:
            yield f"{topic.address} is not encrypted"
    for domain in plan.of("aws_apigatewayv2_domain_name"):
        if one(domain.values["domain_name_configuration"]).get("security_policy") != "TLS_1_2":
            yield f"{domain.address} allows old versions of TLS"


def retention(plan: Plan) -> Problems:
    for group in plan.of("aws_cloudwatch_log_group"):
        if not group.values["retention_in_days"]:
            yield f"{group.address} keeps its lines for ever"
    groups = {group.values["name"] for group in plan.of("aws_cloudwatch_log_group")}
    for name, function in plan.functions().items():
        if f'/aws/lambda/{function["function_name"]}' not in groups:
            yield f"{name} has no log group, so Lambda would make one without retention"
    for lifecycle in plan.of("aws_s3_bucket_lifecycle_configuration"):
        yield from lifecycle_rules(lifecycle)
    for table in plan.of("aws_dynamodb_table"):
        if one(table.values["ttl"]) != {"attribute_name": "expires_at", "enabled": True}:
            yield f"{table.address} does not delete what has expired"
        if not one(table.values["point_in_time_recovery"]).get("enabled"):
            yield f"{table.address} cannot be restored to a point in time"
        sorted_by = "sk" if table.values["name"].endswith("-access") else None
        if (table.values["hash_key"], table.values["range_key"]) != ("pk", sorted_by):
            yield f"{table.address} has other keys than shared/dynamodb makes"
    for database in plan.of("aws_db_instance"):
        if not database.values["replicate_source_db"] and database.values["backup_retention_period"] < 1:
            yield f"{database.address} has no backups"
        if f'/aws/rds/instance/{database.values["identifier"]}/postgresql' not in groups:
            yield f"{database.address} has no log group, so RDS would make one without retention"


def lifecycle_rules(lifecycle: Resource) -> Problems:
    rules = lifecycle.values["rule"]
    days = {one(rule["filter"]).get("prefix"): one(rule["expiration"]).get("days") for rule in rules if rule["status"] == "Enabled"}
    for prefix, expected in RETENTION_DAYS.items():
        if days.get(prefix) != expected:
            yield f"{lifecycle.address}: {prefix} expires after {days.get(prefix)} days instead of {expected}"
    for rule in rules:
        if rule["status"] != "Enabled":
            yield f'{lifecycle.address}: rule {rule["id"]} is off'
        if not one(rule["noncurrent_version_expiration"]).get("noncurrent_days"):
            yield f'{lifecycle.address}: rule {rule["id"]} keeps old versions for ever'
    # One rule without a prefix does it for the objects of all the others.
    of_all = [rule for rule in rules if not one(rule["filter"]).get("prefix")]
    if not any(one(rule["abort_incomplete_multipart_upload"]) for rule in of_all):
        yield f"{lifecycle.address} keeps abandoned uploads"
    if not any(one(rule["expiration"]).get("expired_object_delete_marker") for rule in of_all):
        yield f"{lifecycle.address} keeps delete markers"


def replication(plan: Plan) -> Problems:
    """A copy of the archive gets everything but deletions, and its bucket has rules of its own, which `retention` looks at."""
    copies = plan.of("aws_s3_bucket_replication_configuration")
    for copy in copies:
        rules = copy.values["rule"]
        if [rule["status"] for rule in rules] != ["Enabled"] or one(one(rules)["filter"]).get("prefix"):
            yield f"{copy.address} leaves objects out"
        if one(one(rules)["delete_marker_replication"]).get("status") != "Disabled":
            yield f"{copy.address} deletes in the copy what is deleted here"
    buckets = len(plan.of("aws_s3_bucket"))
    if buckets != 1 + len(copies):
        yield f"{buckets} buckets and {len(copies)} copies of the archive"
    if len(plan.of("aws_s3_bucket_lifecycle_configuration")) != buckets:
        yield "not every bucket has rules that end objects"


def timeouts(plan: Plan) -> Problems:
    environments = plan.environments()
    for name, function in plan.functions().items():
        if not 128 <= function["memory_size"] <= 10_240:
            yield f'{name}: {function["memory_size"]} MB is no memory that Lambda has'
        if function["timeout"] > LONGEST.get(name, LONGEST_OF_LAMBDA):
            yield f'{name}: a timeout of {function["timeout"]} s is longer than what calls it waits'
    query = environments["query"]
    needed = int(query["MAX_WAIT_MS"]) / 1000 + int(query["DB_STATEMENT_TIMEOUT_SEC"])
    if needed >= plan.functions()["query"]["timeout"]:
        yield f"query: MAX_WAIT_MS and DB_STATEMENT_TIMEOUT_SEC take {needed} s, which is not below its timeout"
    kafka_wait = int(environments["ingest"].get("KAFKA_TIMEOUT_MS", 5000)) / 1000
    if kafka_wait >= plan.functions()["ingest"]["timeout"]:
        yield "ingest: KAFKA_TIMEOUT_MS is not below its timeout"


def alarms(plan: Plan) -> Problems:
    for alarm in plan.of("aws_cloudwatch_metric_alarm"):
        if not alarm.values["alarm_actions"] and not is_part(plan, alarm.values["alarm_name"]):
            yield f"{alarm.address} tells nobody"
        metrics = alarms_of_plan.metrics(alarm)
        period = next((metric.period for metric in metrics), 60)
        # CloudWatch looks at a day at most, or at a week if a period has an hour or more.
        if alarm.values["evaluation_periods"] * period > (604_800 if period >= 3600 else 86_400):
            yield f"{alarm.address} looks back further than CloudWatch does"
        if len(metrics) > 10:
            yield f"{alarm.address} has {len(metrics)} metrics, and CloudWatch takes ten"
    for alarm in plan.of("aws_cloudwatch_composite_alarm"):
        if not alarm.values["alarm_actions"]:
            yield f"{alarm.address} tells nobody"
    for function in readme.FUNCTIONS:
        lines = readme.read(function).alarms
        for rule in plan.of("aws_cloudwatch_event_rule"):
            about = rule.values["description"].removeprefix(f"{function}: ")
            if about != rule.values["description"] and not any(about in line for line in lines):
                yield f"{function}: its README does not have the alarm: {about}"


def is_part(plan: Plan, name: str) -> bool:
    """A composite alarm watches it, and tells."""
    return any(f'ALARM("{name}")' in alarm.values["alarm_rule"] for alarm in plan.of("aws_cloudwatch_composite_alarm"))


def new_versions(plan: Plan) -> Problems:
    """A new version has an alarm on its own errors, by the metric that tells the versions of an alias apart."""
    watched = [alarm.values["dimensions"] or {} for alarm in plan.of("aws_cloudwatch_metric_alarm")]
    for name, function in plan.functions().items():
        dimensions = {
            "FunctionName": function["function_name"],
            "Resource": f'{function["function_name"]}:live',
            "ExecutedVersion": function["version"],
        }
        if name != "maintainer" and dimensions not in watched:
            yield f"{name}: no alarm tells the new version's errors from the old one's"


def settings(plan: Plan) -> Problems:
    for function, environment in plan.environments().items():
        documented = readme.read(function)
        for name in sorted(environment.keys() - documented.settings):
            yield f"{function} does not read {name}"
        for name in sorted(documented.required - environment.keys()):
            yield f"{function} does not start without {name}"
        yield from (f"{function}: {problem}" for problem in connections(environment, documented.settings))


def connections(environment: dict[str, str], reads: frozenset[str]) -> Problems:
    """The settings that are required depending on others, as docs/kafka.md and docs/postgres.md say."""
    reads_kafka = "KAFKA_BROKERS" in reads and ("STREAM" not in reads or environment.get("STREAM") == "on")
    if reads_kafka and not environment.keys() & {"KAFKA_BROKERS", "MSK_CLUSTER_ARN"}:
        yield "neither KAFKA_BROKERS nor MSK_CLUSTER_ARN is set"
    login = {"KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD_SECRET_ARN"}
    expected = login if environment.get("KAFKA_SECURITY") == "sasl" else set()
    if environment.keys() & login != expected:
        yield f'KAFKA_SECURITY={environment.get("KAFKA_SECURITY")} with {sorted(environment.keys() & login)}'
    if reads_kafka and environment.get("KAFKA_SECURITY") not in ("iam", "sasl"):
        yield "connections to Kafka are neither encrypted nor with a login"
    if "DB_HOST" in reads:
        for name in ("DB_HOST", "DB_NAME", "DB_USER" if environment.get("DB_AUTH") == "iam" else "DB_PASSWORD_SECRET_ARN"):
            if name not in environment:
                yield f"{name} is not set"
        if environment.get("DB_SSLMODE", "require") != "require":
            yield "connections to Postgres are not encrypted"


def secrets(plan: Plan) -> Problems:
    for function, environment in plan.environments().items():
        for name in sorted(SECRETS & environment.keys()):
            yield f"{function}: {name} would be in Terraform's state; use {name}_SECRET_ARN"
        for name, value in environment.items():
            if name.endswith("_SECRET_ARN") and not value.startswith("arn:aws"):
                yield f"{function}: {name} is no ARN"
    for resource in plan.resources:
        for name in sorted(SECRET_ATTRIBUTES & resource.values.keys()):
            if resource.values[name]:
                yield f"{resource.address} has a value in {name}"


def mappings(plan: Plan) -> Problems:
    sources = plan.of("aws_lambda_event_source_mapping")
    partial = plan.environments()["archiver"]["BATCH_RESPONSE"] == "partial"
    expected = 4 if "notifier" in plan.functions() else 3
    if len(sources) != expected:
        yield f"{len(sources)} mappings instead of {expected}"
    for source in sources:
        values = source.values
        provisioned = bool(values["provisioned_poller_config"])
        reports = "ReportBatchItemFailures" in (values["function_response_types"] or [])
        of_archiver = "archiver" in source.address
        if reports != (partial and of_archiver):
            yield f"{source.address}: ReportBatchItemFailures does not agree with BATCH_RESPONSE, so records would be lost"
        if (partial or reports) and not provisioned:
            yield f"{source.address}: an on-demand mapping takes a partial answer for success"
        expected = (MOST_ATTEMPTS if values["destination_config"] else ENDLESS, ENDLESS) if provisioned else (None, None)
        if (values["maximum_retry_attempts"], values["maximum_record_age_in_seconds"]) != expected:
            yield f"{source.address}: an outage would move past a batch"
        if values["destination_config"] and not provisioned:
            yield f"{source.address}: AWS gives up after ten attempts"
        if of_archiver and (values["batch_size"] < 100 or values["maximum_batching_window_in_seconds"] < 5):
            yield f"{source.address}: objects in S3 would be single records"
        if values["starting_position"] != "TRIM_HORIZON":
            yield f"{source.address} may miss what was written before it was ready"
        if not values["function_name"].endswith(":live"):
            yield f"{source.address} does not invoke the alias"


def webhooks(plan: Plan) -> Problems:
    """Who sends webhooks has the key and a way to the Internet, and whoever hands out secrets has the same key."""
    environments = plan.environments()
    keys = {name: environment["WEBHOOK_KEY_SECRET_ARN"] for name, environment in environments.items() if "WEBHOOK_KEY_SECRET_ARN" in environment}
    expected = {"maintainer", "notifier"} if "notifier" in environments else set()
    if keys.keys() != expected or len(set(keys.values())) > 1:
        yield f"the key of webhooks goes to {keys}, and should be one of {sorted(expected)}"
    rules = {rule.values["description"] for rule in plan.of("aws_vpc_security_group_egress_rule")}
    if expected and WAY_OUT not in rules:
        yield "notifier: nothing leads from the VPC to the Internet"
    readers = {function for function, statement in grants(plan) if set(keys.values()) & set(statement["Resource"])}
    if readers != expected:
        yield f"the key of webhooks may be read by {sorted(readers)}, and should be by {sorted(expected)}"


def streams(plan: Plan) -> Problems:
    """query reads the outcomes of Kafka if it streams them, without a group, and otherwise nothing of Kafka."""
    environment = plan.environments()["query"]
    on = environment.get("STREAM") == "on"
    given = {name for name in environment if name.startswith(("KAFKA_", "MSK_"))}
    if given and not on:
        yield f"query has {sorted(given)}, and streams nothing"
    on_msk = on and "MSK_CLUSTER_ARN" in environment
    may = {
        f'{action} on {resource.rsplit("/", 1)[-1]}'
        for function, statement in grants(plan)
        for action in statement["Action"]
        for resource in statement["Resource"]
        if function == "query" and action.startswith(("kafka:", "kafka-cluster:"))
    }
    expected = {"kafka:GetBootstrapBrokers on *"} | {f"kafka-cluster:{action} on processed-events" for action in ("DescribeTopic", "ReadData")}
    expected.add(f'kafka-cluster:Connect on {environment.get("MSK_CLUSTER_ARN", "").rsplit("/", 1)[-1]}')
    if may != (expected if on_msk else set()):
        yield f"query may do {sorted(may)} with Kafka, and should {sorted(expected) if on_msk else []}"
    if on and not plan.functions()["query"]["vpc_config"]:
        yield "query: it streams, and is not where the brokers are"
    if on_msk and not reaches(plan, "kafka"):
        yield "query: nothing leads from the VPC to the API that names the brokers"
    if on_msk and not any(rule.values["description"] == TO_BROKERS for rule in plan.of("aws_vpc_security_group_egress_rule")):
        yield "query: no rule lets it reach the brokers"
    secret = environment.get("KAFKA_SASL_PASSWORD_SECRET_ARN", "").removesuffix(":password")
    if on and secret and not any(function == "query" and secret in statement["Resource"] for function, statement in grants(plan)):
        yield "query: no policy allows it to read the login of Kafka"


def console(plan: Plan) -> Problems:
    """query invokes the maintainer and the redriver if it has the console, and otherwise nobody; no other function invokes these two."""
    environment = plan.environments()["query"]
    on = environment.get("CONSOLE") == "on"
    given = {name for name in environment if name.startswith(("CONSOLE", "MAINTAINER_", "REDRIVER_"))}
    if given and not on:
        yield f"query has {sorted(given)}, and no console"
    called = {environment.get(f"{name.upper()}_FUNCTION", f"no {name}") for name in ("maintainer", "redriver")} if on else set()
    for name, resources in sorted(invoked(plan).items()):
        of_operators = {arn for arn in resources if re.search(r":function:[a-z0-9-]+-(maintainer|redriver)\b", arn)}
        expected, found = (called, resources) if name == "query" else (set(), of_operators)
        if found != expected:
            yield f"{name} may invoke {sorted(found)}, and should {sorted(expected)}"
    aliases = {f'{plan.functions()[name]["function_name"]}:live' for name in ("maintainer", "redriver")}
    if on and {arn.split(":function:")[-1] for arn in called} != aliases:
        yield f"the console calls {sorted(called)}, and not the live versions {sorted(aliases)}"
    key = environment.get("CONSOLE_KEY_SECRET_ARN")
    readers = {function for function, statement in grants(plan) if key in statement["Resource"]}
    if readers != ({"query"} if on else set()):
        yield f"the key of the console, {key}, may be read by {sorted(readers)}"
    for service in ("lambda", "secretsmanager") if on and plan.functions()["query"]["vpc_config"] else ():
        if not reaches(plan, service):
            yield f"query has the console, and nothing leads from the VPC to {service}"
    routes = {route.values["route_key"] for route in plan.of("aws_apigatewayv2_route") if "/console" in route.values["route_key"]}
    if routes != (CONSOLE_ROUTES if on else set()):
        yield f"the HTTP API has the pages {sorted(routes)} of the console"


def invoked(plan: Plan) -> dict[str, set[str]]:
    """What each function's policy lets it invoke."""
    found: dict[str, set[str]] = {name: set() for name in plan.functions()}
    for function, statement in grants(plan):
        if "lambda:InvokeFunction" in statement["Action"]:
            found[function].update(statement["Resource"])
    return found


def statements(document: str) -> list[dict[str, Any]]:
    return json.loads(document)["Statement"]


def policies(plan: Plan) -> Problems:
    for policy in plan.of("aws_iam_role_policy"):
        names = [statement["Sid"] for statement in statements(policy.values["policy"]) if "Sid" in statement]
        if len(set(names)) < len(names):
            yield f"{policy.address} has two statements with one name, which AWS refuses: {sorted(names)}"
        for statement in statements(policy.values["policy"]):
            actions = statement["Action"]
            if any("*" in action for action in actions):
                yield f"{policy.address}: {actions} has a wildcard"
            if "*" in statement["Resource"] and not set(actions) <= WITHOUT_ARN:
                yield f"{policy.address}: {sorted(set(actions) - WITHOUT_ARN)} on every resource"


def grants(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """The statements of each function's policy that allow something."""
    names = {function["function_name"]: name for name, function in plan.functions().items()}
    roles = {role.address.removesuffix(".aws_iam_role.this"): role.values["name"] for role in plan.of("aws_iam_role")}
    for policy in plan.of("aws_iam_role_policy"):
        function = names.get(roles.get(policy.address.removesuffix(".aws_iam_role_policy.this"), ""))
        if function and policy.values["name"] == "function":
            yield from ((function, statement) for statement in statements(policy.values["policy"]) if statement["Effect"] == "Allow")


def allowed(plan: Plan) -> dict[str, set[str]]:
    """The actions that each function's policy allows."""
    actions: dict[str, set[str]] = {}
    for function, statement in grants(plan):
        actions.setdefault(function, set()).update(statement["Action"])
    return actions


def logins(plan: Plan) -> Problems:
    """Each function may log in by a token at the servers that it connects to, and nowhere else."""
    resources: dict[str, set[str]] = {}
    for function, statement in grants(plan):
        if "rds-db:connect" in statement["Action"]:
            resources.setdefault(function, set()).update(statement["Resource"])
    servers = {database.values["address"]: database.values["resource_id"] for database in plan.of("aws_db_instance")}
    servers |= {proxy.values["endpoint"]: proxy.values["arn"].split(":")[6] for proxy in plan.of("aws_db_proxy")}
    for function, environment in plan.environments().items():
        hosts = [environment[name] for name in ("DB_HOST", "DB_READ_HOST") if name in environment] if environment.get("DB_AUTH") == "iam" else []
        expected = {f'{servers[host]}/{environment["DB_USER"]}' for host in hosts if host in servers}
        found = {arn.split(":dbuser:")[1] for arn in resources.get(function, set())}
        if found != expected:
            yield f"{function} may log in at {sorted(found)}, and connects to {sorted(expected)}"


def read_replica(plan: Plan) -> Problems:
    """Only query reads the replica, at which everything but the host is as at the primary."""
    instances = plan.of("aws_db_instance")
    replicas = [one for one in instances if one.values["replicate_source_db"]]
    hosts = {name: environment["DB_READ_HOST"] for name, environment in plan.environments().items() if "DB_READ_HOST" in environment}
    expected = {"query": replica.values["address"] for replica in replicas}
    if hosts != expected:
        yield f"a replica is read by {hosts}, and should be by {expected}"
    for replica in replicas:
        primary = next(one for one in instances if one.values["identifier"] == replica.values["replicate_source_db"])
        for name in ("ca_cert_identifier", "iam_database_authentication_enabled", "parameter_group_name", "port", "vpc_security_group_ids"):
            if replica.values[name] != primary.values[name]:
                yield f"{replica.address}: {name} is not the primary's"
        if not replica.values["skip_final_snapshot"]:
            yield f"{replica.address} cannot be destroyed: RDS makes no last snapshot of a replica"
        if plan.of("aws_db_proxy"):
            yield f"{replica.address} is not behind the proxy, whose login query has"
        lag = json.dumps(["AWS/RDS", "ReplicaLag", "DBInstanceIdentifier", replica.values["identifier"]], separators=(",", ":"))
        if not any(lag in dashboard.values["dashboard_body"] for dashboard in plan.of("aws_cloudwatch_dashboard")):
            yield f"{replica.address}: no picture shows its lag"


def traces(plan: Plan) -> Problems:
    """A function that sends traces knows where, may do so, and has a way there: what is lacking shows in no log of a dead collector."""
    actions = allowed(plan)
    for name, environment in plan.environments().items():
        function = plan.functions()[name]
        match environment.get("TRACES", "off"):
            case "xray":
                if not SEND_TRACES <= actions[name]:
                    yield f"{name}: no policy allows it to send traces to X-Ray"
                if function["vpc_config"] and not reaches(plan, "xray"):
                    yield f"{name}: nothing leads from the VPC to X-Ray"
            case "otlp":
                if "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" not in environment:
                    yield f"{name} sends traces to itself, because no collector is named"
            case "off":
                if SEND_TRACES & actions[name]:
                    yield f"{name} may send traces to X-Ray, and does not"


def reaches(plan: Plan, service: str) -> bool:
    """Whether functions in the VPC get to a service of AWS: by an endpoint that is made or exists, or by a way out."""
    rules = {rule.values["description"] for rule in plan.of("aws_vpc_security_group_egress_rule")}
    made = any(endpoint.values["service_name"].endswith(f".{service}") for endpoint in plan.of("aws_vpc_endpoint"))
    return made or bool(rules & {WAY_OUT, "AWS services with an interface endpoint that exists"})


CHECKS: tuple[Callable[[Plan], Problems], ...] = (encryption, retention, replication, timeouts, alarms, alarms_of_plan.names, alarms_of_plan.pictures, alarms_of_plan.complete, new_versions, settings, secrets, mappings, webhooks, streams, console, policies, traces, logins, read_replica, archive_tables.check)


def permissions(plans: list[Plan]) -> Problems:
    """A function's README and its policies, over all variants, name the same actions."""
    together: dict[str, set[str]] = {}
    for plan in plans:
        for function, actions in allowed(plan).items():
            together.setdefault(function, set()).update(actions)
    # On a key or secret of the user's own, and in the bucket of the archive with mappings.keep_failed.
    depends = {"kms:Decrypt", "kms:GenerateDataKey", "secretsmanager:GetSecretValue", "s3:ListBucket"}
    for function in readme.FUNCTIONS:
        documented = readme.read(function).permissions
        for action in sorted(together[function] - documented - BY_LAMBDA - depends):
            yield f"{function}: its README does not have {action}, which its policy allows"
        for action in sorted(documented - together[function]):
            yield f"{function}: no policy allows {action}, which its README has"


def words(problem: str) -> str:
    """Without what differs from plan to plan, so that a problem of all is shown once."""
    return re.sub(r"^\S+/\S+: ", "", problem)
