"""What a plan costs by the month without any event."""

from collections import Counter
from typing import Iterator

import cost
from plans import Plan, Values

# The pollers of a provisioned mapping need a unit, which mappings share only with version 6 of the provider.
UNITS_OF_A_MAPPING = 1
# RDS Proxy charges for the server's, and at least for two.
PROXY_VCPUS = 2


def databases(plan: Plan) -> Iterator[tuple[str, float]]:
    instances = [resource.values for resource in plan.of("aws_db_instance")]
    # A replica takes the storage and the owner of its primary.
    gb = {values["identifier"]: values["allocated_storage"] for values in instances}
    for values in instances:
        primary = values["replicate_source_db"]
        servers = 2 if values["multi_az"] else 1
        yield f'{values["instance_class"]}_hours', servers * cost.HOURS_OF_A_MONTH
        yield "database_gb_months", servers * gb[primary or values["identifier"]]
        if not primary:
            # The owner's password.
            yield "secret_months", 1


def kafka(values: Values) -> Iterator[tuple[str, float]]:
    broker = values["broker_node_group_info"][0]
    yield f'{broker["instance_type"]}_hours', values["number_of_broker_nodes"] * cost.HOURS_OF_A_MONTH
    for storage in broker["storage_info"] or []:
        yield "kafka_gb_months", values["number_of_broker_nodes"] * storage["ebs_storage_info"][0]["volume_size"]


def endpoint(values: Values) -> Iterator[tuple[str, float]]:
    if values["vpc_endpoint_type"] == "Interface":
        yield "interface_endpoint_zone_hours", len(values["subnet_ids"]) * cost.HOURS_OF_A_MONTH


def mapping(values: Values) -> Iterator[tuple[str, float]]:
    if values["provisioned_poller_config"]:
        yield "poller_unit_hours", UNITS_OF_A_MAPPING * cost.HOURS_OF_A_MONTH


def alarm(values: Values) -> Iterator[tuple[str, float]]:
    # One on an expression is charged by the metrics in it.
    yield "alarm_months", max(1, sum(len(query["metric"]) for query in values["metric_query"] or []))


def quantities(plan: Plan) -> dict[str, float]:
    found: Counter[str] = Counter()
    for name, quantity in databases(plan):
        found[name] += quantity
    parts = {
        "aws_msk_cluster": kafka,
        "aws_vpc_endpoint": endpoint,
        "aws_lambda_event_source_mapping": mapping,
        "aws_cloudwatch_metric_alarm": alarm,
    }
    for kind, part in parts.items():
        for resource in plan.of(kind):
            for name, quantity in part(resource.values):
                found[name] += quantity
    for kind, name, quantity in (
        ("aws_nat_gateway", "nat_gateway_hours", cost.HOURS_OF_A_MONTH),
        ("aws_eip", "public_address_hours", cost.HOURS_OF_A_MONTH),
        ("aws_db_proxy", "database_proxy_vcpu_hours", PROXY_VCPUS * cost.HOURS_OF_A_MONTH),
        ("aws_cloudwatch_composite_alarm", "composite_alarm_months", 1),
        ("aws_cloudwatch_log_metric_filter", "metric_months", 1),
        ("aws_kms_key", "key_months", 1),
        ("aws_route53_zone", "zone_months", 1),
    ):
        if plan.of(kind):
            found[name] += quantity * len(plan.of(kind))
    return dict(found)


def lines(plan: Plan) -> list[cost.Line]:
    return cost.lines(cost.load("other").month, quantities(plan))
