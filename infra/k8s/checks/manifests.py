"""Builds the manifests and finds things in them."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

K8S = Path(__file__).resolve().parent.parent
NAME = "app.kubernetes.io/name"
PART_OF = "app.kubernetes.io/part-of"
TEMPLATES = {
    "Deployment": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


def roots() -> list[Path]:
    """The base, every overlay, and each component on top of the overlay `local`."""
    shipped = [K8S / "base", *sorted(path.parent for path in K8S.glob("overlays/*/kustomization.yaml"))]
    components = sorted(path.parent for path in K8S.glob("components/*/kustomization.yaml") if path.parent.name != "trial")
    return [*shipped, *(with_component(component) for component in components)]


def with_component(component: Path) -> Path:
    root = K8S.parents[1] / "target/k8s-check" / f"local-with-{component.name}"
    root.mkdir(parents=True, exist_ok=True)
    parts = {"resources": K8S / "overlays/local", "components": component}
    lines = [f"{key}: [{os.path.relpath(path, root)}]" for key, path in parts.items()]
    (root / "kustomization.yaml").write_text("\n".join(["namespace: forebay", *lines, ""]))
    return root


def build(root: Path) -> list[Object]:
    command = ["kubectl", "kustomize", str(root)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {built.stderr.strip()}")
    return [document for document in yaml.load_all(built.stdout, yaml.CSafeLoader) if document]


def name(thing: Object) -> str:
    return f"{thing['kind']}/{thing['metadata']['name']}"


@dataclass
class Workload:
    """A pod template and what makes pods of it."""

    owner: Object
    template: Object

    @property
    def name(self) -> str:
        return name(self.owner)

    @property
    def labels(self) -> dict[str, str]:
        return self.template["metadata"].get("labels", {})

    @property
    def spec(self) -> Object:
        return self.template["spec"]

    @property
    def is_ours(self) -> bool:
        """Not one of the services that only a trial has."""
        return self.labels.get(PART_OF) == "forebay"

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def container(self, wanted: str) -> Object | None:
        return next((one for one in self.containers if one["name"] == wanted), None)

    @property
    def function(self) -> Object | None:
        """The container that runs a function."""
        return next((one for one in self.containers if image(one)[0] in functions()), None)


@dataclass
class Manifests:
    objects: list[Object]

    def of(self, *kinds: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] in kinds]

    def get(self, kind: str, wanted: str) -> Object | None:
        return next((one for one in self.of(kind) if one["metadata"]["name"] == wanted), None)

    def workloads(self) -> list[Workload]:
        found = []
        for owner in self.of(*TEMPLATES):
            template = owner
            for step in TEMPLATES[owner["kind"]]:
                template = template[step]
            found.append(Workload(owner, template))
        return found

    def settings(self) -> dict[str, str]:
        """The settings of all functions: the ConfigMap whose name ends in a hash."""
        found = [one for one in self.of("ConfigMap") if one["metadata"]["name"].startswith("settings-")]
        return next(one["data"] for one in found if one["metadata"]["name"] != "settings-at-deploy")

    def mapping(self, file: str) -> Object | None:
        for config in self.of("ConfigMap"):
            if file in config.get("data", {}):
                return json.loads(config["data"][file])
        return None

    def autoscaled(self) -> Iterator[tuple[Object, str]]:
        for scaler in self.of("HorizontalPodAutoscaler", "ScaledObject"):
            yield scaler, scaler["spec"]["scaleTargetRef"]["name"]


def functions() -> set[str]:
    return {path.parent.name for path in K8S.glob("../../functions/*/Cargo.toml")}


def image(container: Object) -> tuple[str, str]:
    """The name and the tag of an image of ours; the name is empty for another's."""
    repository, _, tag = container["image"].partition(":")
    owner, _, short = repository.rpartition("/")
    return (short if owner == "forebay" else "", tag)


def environment(container: Object) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector matches."""
    plain = selector.get("matchLabels", {})
    listed = selector.get("matchExpressions", [])
    return all(labels.get(key) == value for key, value in plain.items()) and all(
        one["operator"] == "In" and labels.get(one["key"]) in one["values"] for one in listed
    )
