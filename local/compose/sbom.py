#!/usr/bin/env python3
"""Writes a CycloneDX list of the crates that each program links: target/sbom/<program>.cdx.json.

It lies beside the images and is not attached to them: an attachment makes an image index, which Lambda refuses. The packages of
the base image are not in it; the base is a label of its own distribution.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = "x86_64-unknown-linux-gnu"


def metadata() -> dict:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def runs_in_the_compiler(package: dict) -> bool:
    return any("proc-macro" in target["kind"] for target in package["targets"])


def linked(root: str, packages: dict[str, dict], nodes: dict[str, dict]) -> set[str]:
    """The packages that a program links: not those of tests, build scripts and procedural macros."""
    found, waiting = set(), [root]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            is_normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            name = dependency["pkg"]
            if is_normal and name not in found and not runs_in_the_compiler(packages[name]):
                found.add(name)
                waiting.append(name)
    return found


def component(package: dict) -> dict:
    described = {
        "type": "library",
        "name": package["name"],
        "version": package["version"],
        "purl": f"pkg:cargo/{package['name']}@{package['version']}",
    }
    if package["license"]:
        # Cargo's older way of writing OR.
        described["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return described


def bill(program: dict, packages: dict[str, dict], nodes: dict[str, dict]) -> dict:
    components = [component(packages[name]) for name in linked(program["id"], packages, nodes)]
    components.sort(key=lambda entry: (entry["name"], entry["version"]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**component(program), "type": "application"}},
        "components": components,
    }


def main(programs: list[str]) -> None:
    cargo = metadata()
    packages = {package["id"]: package for package in cargo["packages"]}
    nodes = {node["id"]: node for node in cargo["resolve"]["nodes"]}
    folder = ROOT / "target/sbom"
    folder.mkdir(parents=True, exist_ok=True)
    members = {packages[name]["name"]: packages[name] for name in cargo["workspace_members"]}
    for name in programs:
        text = json.dumps(bill(members[name], packages, nodes), indent=2)
        (folder / f"{name}.cdx.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
