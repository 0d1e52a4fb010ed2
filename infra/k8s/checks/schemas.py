"""The manifests against the schemas of Kubernetes and of custom resources; unknown fields are mistakes."""

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from manifests import Object, name

# The oldest and the newest version that the manifests are for.
VERSIONS = ("1.30", "1.34")
CUSTOM = ("keda.sh/", "monitoring.coreos.com/", "external-secrets.io/")


def strict(schema: Any) -> Any:
    """Refuses fields that the schema does not name, as the API server would drop them."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not is_open:
        schema["additionalProperties"] = False
    return schema


def definitions(folder: Path) -> dict[tuple[str, str], Object]:
    """The schema of each custom resource, by its API version and kind."""
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        for definition in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            if not definition or definition["kind"] != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def mistakes(objects: list[Object], custom: dict[tuple[str, str], Object] | None) -> list[str]:
    """`custom` is None if the definitions of custom resources are not at hand."""
    found = []
    for one in objects:
        if not one["apiVersion"].startswith(CUSTOM):
            found += [mistake for version in VERSIONS for mistake in of_kubernetes(json.dumps(one), version)]
        elif custom is not None:
            found += of_custom(one, custom.get((one["apiVersion"], one["kind"])))
    return found


# The overlays share most objects.
@functools.cache
def of_kubernetes(text: str, version: str) -> list[str]:
    one = json.loads(text)
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        where = ".".join(str(step) for step in error.path)
        return [f"{name(one)} in Kubernetes {version}: {where}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [f"{name(one)}: {error}"]
    return []


def of_custom(one: Object, schema: Object | None) -> list[str]:
    if schema is None:
        return [f"{name(one)}: nothing defines {one['apiVersion']} {one['kind']}"]
    errors = jsonschema.Draft7Validator(schema).iter_errors(one)
    return [f"{name(one)}: {'.'.join(map(str, error.path))}: {error.message}" for error in errors]
