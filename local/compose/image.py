#!/usr/bin/env python3
"""Checks that each image is what Lambda takes: one manifest for one platform, and a program of that platform.

An image index, which buildx makes when it attaches an SBOM or provenance, is refused by Lambda.
"""

import io
import json
import platform
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
ARCHITECTURES = {"x86_64": ("amd64", 62), "aarch64": ("arm64", 183)}
ELF_MAGIC = b"\x7fELF"


def tag() -> str:
    lines = (ROOT / "local/images.env").read_text().splitlines()
    return next(line.removeprefix("FOREBAY_TAG=") for line in lines if line.startswith("FOREBAY_TAG="))


def images() -> list[str]:
    functions = sorted(folder.name for folder in (ROOT / "functions").iterdir())
    return [f"forebay/{program}:{tag()}" for program in [*functions, "esm", "services", "stack"]]


def member(archive: tarfile.TarFile, name: str) -> bytes | None:
    try:
        file = archive.extractfile(name)
    except KeyError:
        return None
    return file.read() if file else None


def machine_of_program(archive: tarfile.TarFile, layers: list[str], path: str) -> int | None:
    """The ELF machine of a file, from the last layer that has it; None if it is missing or no ELF file."""
    for layer in reversed(layers):
        with tarfile.open(fileobj=io.BytesIO(member(archive, layer) or b"")) as files:
            head = member_head(files, path.lstrip("/"))
        if head is not None:
            return struct.unpack_from("<H", head, 18)[0] if head.startswith(ELF_MAGIC) else None
    return None


def member_head(files: tarfile.TarFile, path: str) -> bytes | None:
    for info in files:
        if info.name.removeprefix("./") == path:
            file = files.extractfile(info)
            return file.read(20) if file else None
    return None


def mistakes(saved: bytes, architecture: str, machine: int) -> list[str]:
    """What is wrong with an image as `docker save` writes it."""
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        manifests = json.loads(member(archive, "manifest.json") or b"[]")
        if len(manifests) != 1:
            return [f"it has {len(manifests)} manifests"]
        found = []
        index = json.loads(member(archive, "index.json") or b"{}")
        entries = index.get("manifests", [])
        if len(entries) > 1 or any(entry.get("mediaType") in INDEXES for entry in entries):
            found.append("it is an image index")
        config = json.loads(member(archive, manifests[0]["Config"]) or b"{}")
        if config.get("architecture") != architecture:
            found.append(f"it is for {config.get('architecture')}, not {architecture}")
        program = config["config"]["Entrypoint"][0]
        if machine_of_program(archive, manifests[0]["Layers"], program) != machine:
            found.append(f"{program} is no program for {architecture}")
        user = config["config"].get("User", "")
        if not user.split(":")[0].isdigit() or user.startswith("0"):
            found.append(f"it runs as {user!r}, not as a number other than 0")
        if not config["config"].get("Labels", {}).get("org.opencontainers.image.revision"):
            found.append("it has no label of its revision")
        return found


def main() -> int:
    architecture, machine = ARCHITECTURES[platform.machine()]
    failed = False
    for image in images():
        saved = subprocess.run(["docker", "save", image], check=True, capture_output=True).stdout
        for mistake in mistakes(saved, architecture, machine):
            print(f"{image}: {mistake}")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
