"""Packs each function's `bootstrap` into a zip for AWS Lambda. The same input gives the same bytes.

Usage: zips.py BUILT PACKAGES FUNCTION…      BUILT has FUNCTION/bootstrap, as cargo-lambda makes it.
"""

import sys
import zipfile
from pathlib import Path

import symbols

CERTIFICATES = Path(__file__).with_name("rds-ca.pem")
# The first time that a zip can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)
EXECUTABLE, READABLE = 0o755, 0o644
UNIX, REGULAR_FILE = 3, 0o100000


def add(package: zipfile.ZipFile, name: str, content: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = UNIX
    entry.external_attr = (REGULAR_FILE | mode) << 16
    package.writestr(entry, content, compresslevel=9)


def needs_postgres(program: bytes) -> bool:
    """Whether the program reads DB_CA_FILE: only then are the authorities of RDS of use."""
    return b"DB_CA_FILE" in program


def pack(program: Path, to: Path) -> None:
    content = program.read_bytes()
    with zipfile.ZipFile(to, "w") as package:
        add(package, "bootstrap", content, EXECUTABLE)
        if needs_postgres(content):
            add(package, "rds-ca.pem", CERTIFICATES.read_bytes(), READABLE)


def main(built: Path, packages: Path, functions: list[str]) -> int:
    packages.mkdir(parents=True, exist_ok=True)
    failed = False
    for function in functions:
        program = built / function / "bootstrap"
        for problem in symbols.problems(program):
            print(f"{function}: {problem}", file=sys.stderr)
            failed = True
        to = packages / f"{function}.zip"
        pack(program, to)
        print(f"{function:<12} {to.stat().st_size:>10} bytes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
