"""What a program needs that provided.al2023 does not have.

An emulator on a newer machine would run such a program all the same, and Lambda would not start it.
"""

import re
import subprocess
from pathlib import Path

# Amazon Linux 2023.
GLIBC = (2, 34)
LIBRARIES = {
    "ld-linux-aarch64.so.1",
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
}


def of_listing(listing: str) -> list[str]:
    """Reads what `readelf --wide --dynamic --version-info` prints."""
    found = []
    for library in re.findall(r"\(NEEDED\)\s+Shared library: \[(.+?)\]", listing):
        if library not in LIBRARIES:
            found.append(f"needs the library {library}, which provided.al2023 lacks")
    versions = {tuple(int(part) for part in version.split(".")) for version in re.findall(r"Name: GLIBC_([0-9.]+)", listing)}
    for version in sorted(version for version in versions if version > GLIBC):
        found.append(f"needs glibc {'.'.join(map(str, version))}; provided.al2023 has {'.'.join(map(str, GLIBC))}")
    return found


def problems(program: Path) -> list[str]:
    command = ["readelf", "--wide", "--dynamic", "--version-info", str(program)]
    return of_listing(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
