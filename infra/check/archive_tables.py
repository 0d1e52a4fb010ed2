"""The tables of Athena against objects that the archiver wrote: a prefix that fits none would be an empty table, and no error."""

import itertools
import re
from typing import Any, Iterator

import readme
from plans import Plan, Resource

OBJECTS = readme.ROOT / "infra/lake/fixture/archive"

LINE_READER = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def check(plan: Plan) -> Iterator[str]:
    tables = plan.of("aws_glue_catalog_table")
    for table in tables:
        yield from columns(table)
    if tables:
        yield from keys(tables)
    for workgroup in plan.of("aws_athena_workgroup"):
        yield from limits(workgroup, plan)


def columns(table: Resource) -> Iterator[str]:
    storage = table.values["storage_descriptor"][0]
    if [(column["name"], column["type"]) for column in storage["columns"]] != [("line", "string")]:
        yield f"{table.address}: a payload is not kept in one string"
    if storage["ser_de_info"][0]["serialization_library"] != LINE_READER:
        yield f"{table.address}: keys that differ in case would fail its reader"
    template = template_of(table)
    if not template.startswith(storage["location"]):
        yield f"{table.address}: partitions are outside its location"
    partitions = [key["name"] for key in table.values["partition_keys"] or []]
    if PLACEHOLDER.findall(template) != partitions:
        yield f"{table.address} is partitioned by {partitions}, and its prefix has {PLACEHOLDER.findall(template)}"


def template_of(table: Resource) -> str:
    return table.values["parameters"].get("storage.location.template") or table.values["storage_descriptor"][0]["location"]


def projected(table: Resource, key: str) -> list[str]:
    """Patterns of the values that Athena makes up for a column."""
    properties = {
        name.removeprefix(f"projection.{key}."): value
        for name, value in table.values["parameters"].items()
        if name.startswith(f"projection.{key}.")
    }
    match properties.get("type"):
        case "date" if properties["format"] == "yyyy-MM-dd":
            return [DAY.pattern]
        case "enum":
            return properties["values"].split(",")
    return []


def partitions(table: Resource) -> Iterator[str]:
    """A pattern for the keys of each partition."""
    template = re.sub(r"^s3://[^/]+/", "", template_of(table))
    names = PLACEHOLDER.findall(template)
    for values in itertools.product(*(projected(table, name) for name in names)):
        made = dict(zip(names, values))
        yield "".join(made[part] if at % 2 else re.escape(part) for at, part in enumerate(PLACEHOLDER.split(template)))


def keys(tables: list[Resource]) -> Iterator[str]:
    patterns = {table.values["name"]: re.compile("|".join(partitions(table)) or "(?!)") for table in tables}
    objects = sorted(file.relative_to(OBJECTS).as_posix() for file in OBJECTS.rglob("*.zst"))
    if not objects:
        yield f"there are no objects under {OBJECTS}"
    for key in objects:
        found = [name for name, pattern in patterns.items() if pattern.match(key)]
        # Athena projects days, and those records have none: docs/archive-queries.md says so.
        if len(found) != (0 if "/dt=unknown/" in key else 1):
            yield f"the object {key} is in the tables {found}"


def limits(workgroup: Resource, plan: Plan) -> Iterator[str]:
    configuration: dict[str, Any] = workgroup.values["configuration"][0]
    results = configuration["result_configuration"][0]
    if not configuration["enforce_workgroup_configuration"] or not configuration["bytes_scanned_cutoff_per_query"]:
        yield f"{workgroup.address}: a query may scan everything"
    if not results["encryption_configuration"]:
        yield f"{workgroup.address}: results are not encrypted"
    prefix = re.sub(r"^s3://[^/]+/", "", results["output_location"])
    rules = [rule for lifecycle in plan.of("aws_s3_bucket_lifecycle_configuration") for rule in lifecycle.values["rule"]]
    if not any(rule["filter"] and rule["filter"][0].get("prefix") == prefix and rule["expiration"] for rule in rules):
        yield f"{workgroup.address}: results stay for ever"
