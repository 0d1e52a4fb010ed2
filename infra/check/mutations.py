"""Breaks a good plan on purpose, one thing at a time: each must be noticed, or a check cannot fail."""

import copy
import json
from dataclasses import dataclass
from typing import Any, Callable, Iterator

import assertions
from plans import Plan, Resource, Values


@dataclass(frozen=True)
class Mutation:
    name: str
    # Part of the sentence that must come.
    expected: str
    apply: Callable[[Plan], None]
    # Of which run the plan is.
    run: str = "defaults"


def first(plan: Plan, kind: str, part: str = "") -> Values:
    return next(resource.values for resource in plan.of(kind) if part in resource.address)


def setting(kind: str, name: str, value: Any, part: str = "") -> Callable[[Plan], None]:
    """Sets an argument of the first resource of a kind."""

    def apply(plan: Plan) -> None:
        first(plan, kind, part)[name] = value

    return apply


def without(kind: str, part: str = "") -> Callable[[Plan], None]:
    def apply(plan: Plan) -> None:
        gone = next(resource for resource in plan.of(kind) if part in resource.address)
        plan.resources.remove(gone)

    return apply


def metric_of_expression(alarm: str, name: str) -> Callable[[Plan], None]:
    """Renames the first metric of an alarm on an expression."""

    def apply(plan: Plan) -> None:
        queries = first(plan, "aws_cloudwatch_metric_alarm", alarm)["metric_query"]
        next(metric for query in queries for metric in query["metric"])["metric_name"] = name

    return apply


def picture(old: str, new: str) -> Callable[[Plan], None]:
    def apply(plan: Plan) -> None:
        dashboard = first(plan, "aws_cloudwatch_dashboard")
        dashboard["dashboard_body"] = dashboard["dashboard_body"].replace(old, new)

    return apply


def environment(function: str, changes: dict[str, str | None]) -> Callable[[Plan], None]:
    def apply(plan: Plan) -> None:
        variables = plan.environments()[function]
        for name, value in changes.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value

    return apply


def policy(change: Callable[[dict[str, Any]], None]) -> Callable[[Plan], None]:
    """Changes the last statement of the scorer's policy."""

    def apply(plan: Plan) -> None:
        values = first(plan, "aws_iam_role_policy", 'function["scorer"]')
        document = json.loads(values["policy"])
        change(document["Statement"][-1])
        values["policy"] = json.dumps(document)

    return apply


def same_names(plan: Plan) -> None:
    values = first(plan, "aws_iam_role_policy", 'function["query"]')
    document = json.loads(values["policy"])
    document["Statement"].append(document["Statement"][0])
    values["policy"] = json.dumps(document)


def without_statement(function: str, sid: str) -> Callable[[Plan], None]:
    def apply(plan: Plan) -> None:
        values = first(plan, "aws_iam_role_policy", f'function["{function}"]')
        document = json.loads(values["policy"])
        document["Statement"] = [one for one in document["Statement"] if one["Sid"] != sid]
        values["policy"] = json.dumps(document)

    return apply


def invokes(function: str, old: str, new: str) -> Callable[[Plan], None]:
    """Changes what a function may invoke."""

    def apply(plan: Plan) -> None:
        values = first(plan, "aws_iam_role_policy", f'function["{function}"]')
        document = json.loads(values["policy"])
        statement = next(one for one in document["Statement"] if one["Action"] == ["lambda:InvokeFunction"])
        statement["Resource"] = [arn.replace(old, new) for arn in statement["Resource"]]
        values["policy"] = json.dumps(document)

    return apply


def another_topic(plan: Plan) -> None:
    values = first(plan, "aws_iam_role_policy", 'function["query"]')
    values["policy"] = values["policy"].replace("/processed-events", "/raw-events")


def logins_of(function: str, change: Callable[[list[str]], list[str]]) -> Callable[[Plan], None]:
    """Changes where a function may log in with a token."""

    def apply(plan: Plan) -> None:
        values = first(plan, "aws_iam_role_policy", f'function["{function}"]')
        document = json.loads(values["policy"])
        statement = next(one for one in document["Statement"] if one["Sid"] == "ConnectToDatabase")
        statement["Resource"] = change(statement["Resource"])
        values["policy"] = json.dumps(document)

    return apply


def a_proxy(plan: Plan) -> None:
    values = Values(require_tls=True, endpoint="a.proxy", arn="arn:aws:rds:eu-west-1:123456789012:db-proxy:prx-1")
    plan.resources.append(Resource("a.proxy", "aws_db_proxy", values))


def expire_late(plan: Plan) -> None:
    rules = first(plan, "aws_s3_bucket_lifecycle_configuration")["rule"]
    next(rule for rule in rules if rule["id"] == "raw")["expiration"][0]["days"] = 300


def leftovers(block: str, value: Any) -> Callable[[Plan], None]:
    """Changes the rule for what the other rules leave."""

    def apply(plan: Plan) -> None:
        rules = first(plan, "aws_s3_bucket_lifecycle_configuration")["rule"]
        next(rule for rule in rules if rule["id"] == "leftovers")[block] = value

    return apply


def copy_that_deletes(plan: Plan) -> None:
    rule = {"status": "Enabled", "filter": [{}], "delete_marker_replication": [{"status": "Enabled"}]}
    plan.resources.append(Resource("a.copy", "aws_s3_bucket_replication_configuration", Values(rule=[rule])))


def no_ttl(plan: Plan) -> None:
    first(plan, "aws_dynamodb_table", "access")["ttl"] = []


def table(part: str, change: Callable[[Values], None]) -> Callable[[Plan], None]:
    return lambda plan: change(first(plan, "aws_glue_catalog_table", part))


def parameter(name: str, value: str, part: str) -> Callable[[Plan], None]:
    return table(part, lambda values: values["parameters"].update({name: value}))


def storage(name: str, value: Any) -> Callable[[Plan], None]:
    return table("raw_lines", lambda values: values["storage_descriptor"][0].update({name: value}))


def workgroup(name: str, value: Any) -> Callable[[Plan], None]:
    def apply(plan: Plan) -> None:
        first(plan, "aws_athena_workgroup")["configuration"][0][name] = value

    return apply


def results_for_ever(plan: Plan) -> None:
    rules = first(plan, "aws_s3_bucket_lifecycle_configuration")["rule"]
    rules.remove(next(rule for rule in rules if rule["id"] == "queries"))


TABLES = "archive_as_tables"
WEBHOOKS = "webhooks"
STREAMS = "streams"
STREAMS_ELSEWHERE = "streams_of_a_kafka_elsewhere"
CONSOLE = "console"
CONSOLE_IN_PRODUCTION = "console_with_a_key_in_production"
WEBHOOKS_WITH_KEY = "webhooks_with_a_key_in_production"
REPLICA = "database_by_iam_with_a_read_replica"
PREFIX = "s3://ours/raw/topic=raw-events/"
ANOTHER_READER = [{"serialization_library": "org.openx.data.jsonserde.JsonSerDe"}]

MUTATIONS = (
    Mutation("an unencrypted database", "is not encrypted", setting("aws_db_instance", "storage_encrypted", False)),
    Mutation("a public database", "from outside", setting("aws_db_instance", "publicly_accessible", True)),
    Mutation("a bucket without encryption", "server_side_encryption", without("aws_s3_bucket_server_side_encryption_configuration")),
    Mutation("a bucket over plain HTTP", "plain HTTP", setting("aws_s3_bucket_policy", "policy", "{}")),
    Mutation("a public bucket", "block_public_acls is off", setting("aws_s3_bucket_public_access_block", "block_public_acls", False)),
    Mutation("brokers without TLS", "without TLS", setting("aws_msk_cluster", "encryption_info", [])),
    Mutation("logs for ever", "for ever", setting("aws_cloudwatch_log_group", "retention_in_days", None)),
    Mutation("a function without a log group", "has no log group", without("aws_cloudwatch_log_group", 'function["scorer"]')),
    Mutation("objects kept too long", "expires after 300 days", expire_late),
    Mutation("old versions for ever", "keeps old versions", leftovers("noncurrent_version_expiration", [])),
    Mutation("delete markers for ever", "keeps delete markers", leftovers("expiration", [])),
    Mutation("abandoned uploads for ever", "keeps abandoned uploads", leftovers("abort_incomplete_multipart_upload", [])),
    Mutation("rules for a part of the objects", "keeps abandoned uploads", leftovers("filter", [{"prefix": "raw/"}])),
    Mutation("a rule that is off", "leftovers is off", leftovers("status", "Disabled")),
    Mutation("a bucket without rules", "rules that end objects", without("aws_s3_bucket_lifecycle_configuration")),
    Mutation("a copy that deletes", "what is deleted here", copy_that_deletes),
    Mutation("claims that stay", "has expired", no_ttl),
    Mutation("a long timeout behind a mapping", "a timeout of 900 s", setting("aws_lambda_function", "timeout", 900, 'function["processor"]')),
    Mutation("a wait beyond the timeout", "not below its timeout", environment("query", {"MAX_WAIT_MS": "60000"})),
    Mutation("an alarm less", "scorer-throttled has no alarm", without("aws_cloudwatch_metric_alarm", "scorer-throttled")),
    Mutation("an objective less", "ingest-latency-fast has no alarm", without("aws_cloudwatch_composite_alarm", "ingest-latency-fast")),
    Mutation("an alarm that tells nobody", "tells nobody", setting("aws_cloudwatch_metric_alarm", "alarm_actions", [], '"dead-letters"')),
    Mutation("a part of nothing", "tells nobody", setting("aws_cloudwatch_composite_alarm", "alarm_rule", "ALARM(x)", "ingest-latency-fast")),
    Mutation("an objective that tells nobody", "tells nobody", setting("aws_cloudwatch_composite_alarm", "alarm_actions", [])),
    Mutation("a metric that does not exist", "no metric is called x_total", setting("aws_cloudwatch_metric_alarm", "metric_name", "x_total", '"dead-letters"')),
    Mutation(
        "a metric summed over a dimension",
        "has the dimensions ['service', 'status']",
        setting("aws_cloudwatch_metric_alarm", "dimensions", {"service": "processor"}, '"dead-letters"'),
    ),
    Mutation(
        "a metric of another function",
        "query does not write",
        setting("aws_cloudwatch_metric_alarm", "dimensions", {"service": "query", "status": "dead_lettered"}, '"dead-letters"'),
    ),
    Mutation("another namespace", "writes into the namespace", environment("processor", {"METRICS_NAMESPACE": "Other"})),
    Mutation("an objective on another metric", "no metric is called x_seconds", metric_of_expression("ingest-latency-fast-1h", "x_seconds")),
    Mutation("a picture of nothing", "no metric is called x_total", picture("dead_letters_total", "x_total")),
    Mutation("a picture of other dimensions", "has not the dimensions", picture("service,reason", "service,cause")),
    Mutation("a long look back", "looks back further", setting("aws_cloudwatch_metric_alarm", "evaluation_periods", 2000, '"dead-letters"')),
    Mutation(
        "an alarm that mixes versions",
        "tells the new version's errors",
        setting("aws_cloudwatch_metric_alarm", "dimensions", {"FunctionName": "forebay-test-query"}, 'new_version_alarm["query"]'),
    ),
    Mutation("a setting that nobody reads", "does not read", environment("archiver", {"FRAUD_TRESHOLD": "70"})),
    Mutation("a setting less", "does not start without ARCHIVE_BUCKET", environment("archiver", {"ARCHIVE_BUCKET": None})),
    Mutation("no brokers", "neither KAFKA_BROKERS nor", environment("ingest", {"MSK_CLUSTER_ARN": None})),
    Mutation("a secret in the state", "would be in Terraform's state", environment("query", {"DB_PASSWORD": "s3cret"})),
    Mutation("a partial answer that nobody expects", "does not agree with BATCH_RESPONSE", environment("archiver", {"BATCH_RESPONSE": "partial"})),
    Mutation(
        "failed records that nobody reports",
        "does not agree with BATCH_RESPONSE",
        setting("aws_lambda_event_source_mapping", "function_response_types", ["ReportBatchItemFailures"], "archiver-raw"),
    ),
    Mutation(
        "a mapping that gives up",
        "move past a batch",
        setting("aws_lambda_event_source_mapping", "maximum_retry_attempts", 5, "processor"),
    ),
    Mutation("objects of single records", "single records", setting("aws_lambda_event_source_mapping", "batch_size", 1, "archiver-raw")),
    Mutation("webhooks less an alarm", "webhooks-dead has no alarm", without("aws_cloudwatch_metric_alarm", "webhooks-dead"), WEBHOOKS),
    Mutation("webhooks without a trigger", "3 mappings instead of 4", without("aws_lambda_event_source_mapping", "notifier"), WEBHOOKS),
    Mutation(
        "failed records that the notifier does not report",
        "does not agree with BATCH_RESPONSE",
        setting("aws_lambda_event_source_mapping", "function_response_types", ["ReportBatchItemFailures"], "notifier"),
        WEBHOOKS_WITH_KEY,
    ),
    Mutation("a key of webhooks in the state", "would be in Terraform's state", environment("notifier", {"WEBHOOK_KEY": "s3cret"}), WEBHOOKS),
    Mutation("secrets of other webhooks", "should be one of", environment("maintainer", {"WEBHOOK_KEY_SECRET_ARN": "arn:aws:other"}), WEBHOOKS),
    Mutation("webhooks without a secret", "should be one of", environment("notifier", {"WEBHOOK_KEY_SECRET_ARN": None}), WEBHOOKS),
    Mutation("webhooks without a way", "to the Internet", without("aws_vpc_security_group_egress_rule", "internet"), WEBHOOKS),
    Mutation("a key of webhooks that the notifier may not read", "may be read by ['maintainer']", without_statement("notifier", "ReadWebhookKey"), WEBHOOKS),
    Mutation("streams without brokers", "query: neither KAFKA_BROKERS nor", environment("query", {"MSK_CLUSTER_ARN": None}), STREAMS),
    Mutation("streams without a login", "neither encrypted nor with a login", environment("query", {"KAFKA_SECURITY": None}), STREAMS),
    Mutation("streams that nobody allows", "query may do", without_statement("query", "ReadOutcomes"), STREAMS),
    Mutation("streams of another topic", "query may do", another_topic, STREAMS),
    Mutation("a permission for streams that are off", "and should []", environment("query", {"STREAM": None}), STREAMS),
    Mutation("brokers for streams that are off", "and streams nothing", environment("query", {"MSK_CLUSTER_ARN": "arn:aws:kafka:1"})),
    Mutation("streams outside of the VPC", "not where the brokers are", setting("aws_lambda_function", "vpc_config", [], 'function["query"]'), STREAMS),
    Mutation("streams without the API of MSK", "that names the brokers", without("aws_vpc_endpoint", '["kafka"]'), STREAMS),
    Mutation("streams without a way", "no rule lets it reach", without("aws_vpc_security_group_egress_rule", "functions_to_msk"), STREAMS),
    Mutation("streams without the password", "read the login of Kafka", without_statement("query", "ReadKafkaLogin"), STREAMS_ELSEWHERE),
    Mutation("a console that may call nobody", "query may invoke [], and should", without_statement("query", "CallForOperators"), CONSOLE),
    Mutation("a console that may call every version", "query may invoke", invokes("query", "-redriver:live", "-redriver"), CONSOLE),
    Mutation("a console that calls another function", "not the live versions", environment("query", {"REDRIVER_FUNCTION": "redriver"}), CONSOLE),
    Mutation("a console in a plan without one", "and no console", environment("query", {"CONSOLE": None}), CONSOLE),
    Mutation("a permission to call without a console", "redriver:live'], and should []", environment("query", {"CONSOLE": "off"}), CONSOLE),
    Mutation("another function that calls the maintainer", "processor may invoke", invokes("processor", "-scorer:", "-maintainer:")),
    Mutation("a key of the console that nobody may read", "may be read by []", without_statement("query", "ReadConsoleKey"), CONSOLE),
    Mutation("a console without its key", "may be read by []", environment("query", {"CONSOLE_KEY_SECRET_ARN": None}), CONSOLE),
    Mutation("a key of the console in the state", "would be in Terraform's state", environment("query", {"CONSOLE_KEY": "s3cret"}), CONSOLE),
    Mutation("a console without the API of Lambda", "from the VPC to lambda", without("aws_vpc_endpoint", '["lambda"]'), CONSOLE),
    Mutation("a console without a way to its key", "from the VPC to secretsmanager", without("aws_vpc_endpoint", '["secretsmanager"]'), CONSOLE_IN_PRODUCTION),
    Mutation("a console without a page", "has the pages", without("aws_apigatewayv2_route", "POST /console"), CONSOLE),
    Mutation("pages without a console", "has the pages", setting("aws_apigatewayv2_route", "route_key", "GET /console")),
    Mutation("traces without the permission", "no policy allows it to send traces", environment("query", {"TRACES": "xray"})),
    Mutation("traces without a way", "nothing leads from the VPC to X-Ray", environment("query", {"TRACES": "xray"})),
    Mutation("traces to nobody", "no collector is named", environment("query", {"TRACES": "otlp"})),
    Mutation(
        "a permission for nothing",
        "may send traces to X-Ray, and does not",
        policy(lambda statement: statement.update(Action=["xray:PutSpans"], Resource=["*"])),
    ),
    Mutation("two statements with one name", "which AWS refuses", same_names),
    Mutation("a wildcard", "has a wildcard", policy(lambda statement: statement.update(Action=["s3:*"]))),
    Mutation("every resource", "on every resource", policy(lambda statement: statement.update(Resource=["*"]))),
    Mutation("a database without a log group", "so RDS would make one", setting("aws_db_instance", "identifier", "other")),
    Mutation("a primary without backups", "has no backups", setting("aws_db_instance", "backup_retention_period", 0, "aws_db_instance.this"), REPLICA),
    Mutation("a primary with a password of ours", "does not manage", setting("aws_db_instance", "manage_master_user_password", None, "aws_db_instance.this"), REPLICA),
    Mutation("an unencrypted replica", "is not encrypted", setting("aws_db_instance", "storage_encrypted", False, "replica"), REPLICA),
    Mutation("a replica that nobody reads", "is read by {}", environment("query", {"DB_READ_HOST": None}), REPLICA),
    Mutation("a replica that others read", "'processor'", environment("processor", {"DB_READ_HOST": "replica.eu-west-1.rds.example"}), REPLICA),
    Mutation("a replica that does not exist", "should be by {}", environment("query", {"DB_READ_HOST": "other"})),
    Mutation("a replica with another authority", "ca_cert_identifier is not", setting("aws_db_instance", "ca_cert_identifier", "other", "replica"), REPLICA),
    Mutation("a replica that takes others' connections", "vpc_security_group_ids is not", setting("aws_db_instance", "vpc_security_group_ids", [], "replica"), REPLICA),
    Mutation("a replica with a last snapshot", "cannot be destroyed", setting("aws_db_instance", "skip_final_snapshot", False, "replica"), REPLICA),
    Mutation("a replica beside a proxy", "not behind the proxy", a_proxy, REPLICA),
    Mutation("a replica that lags unseen", "shows its lag", picture("ReplicaLag", "CPUUtilization"), REPLICA),
    Mutation("a login at the replica that nobody allows", "query may log in at", logins_of("query", lambda arns: arns[:1]), REPLICA),
    Mutation("a login at the replica for all", "processor may log in at", logins_of("processor", lambda arns: [*arns, f"{arns[0]}-2"]), REPLICA),
    Mutation("another prefix", "is in the tables []", parameter("storage.location.template", f"{PREFIX}day=${{dt}}/hour=${{hour}}/", "raw_lines"), TABLES),
    Mutation("hours of one digit", "hour=07", parameter("projection.hour.values", "7,17,18,20", "raw_lines"), TABLES),
    Mutation("a status less", "status=fraud", parameter("projection.status.values", "valid", "outcome_lines"), TABLES),
    Mutation("a day of another form", "is in the tables []", parameter("projection.dt.format", "yyyy/MM/dd", "raw_lines"), TABLES),
    Mutation("partitions elsewhere", "outside its location", storage("location", "s3://ours/outcomes/"), TABLES),
    Mutation("partitions that nobody declared", "is partitioned by []", setting("aws_glue_catalog_table", "partition_keys", [], "raw_lines"), TABLES),
    Mutation("a payload as a structure", "in one string", storage("columns", [{"name": "line", "type": "struct<id:int>"}]), TABLES),
    Mutation("a reader of JSON", "differ in case", storage("ser_de_info", ANOTHER_READER), TABLES),
    Mutation("a query without a limit", "scan everything", workgroup("bytes_scanned_cutoff_per_query", None), TABLES),
    Mutation("a limit that is an offer", "scan everything", workgroup("enforce_workgroup_configuration", False), TABLES),
    Mutation("results for ever", "results stay for ever", results_for_ever, TABLES),
)


def copied(plan: Plan) -> Plan:
    # With the class of the values, which copy.deepcopy keeps.
    return Plan(plan.run, [Resource(r.address, r.type, copy.deepcopy(r.values)) for r in plan.resources])


def unnoticed(plans: list[Plan]) -> Iterator[str]:
    by_run = {plan.run.rsplit("/", 1)[1]: plan for plan in plans if plan.run.startswith("modules/pipeline/")}
    for mutation in MUTATIONS:
        if mutation.run not in by_run:
            yield f"{mutation.run} made no plan, in which {mutation.name} could be tried"
            continue
        plan = copied(by_run[mutation.run])
        mutation.apply(plan)
        found = [problem for check in assertions.CHECKS for problem in check(plan)]
        if not any(mutation.expected in problem for problem in found):
            yield f"no check notices {mutation.name}: {found}"
