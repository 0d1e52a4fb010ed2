"""Checks the base, every overlay and every component: they build, fit the schemas, and keep the rules. Usage: check.py [FOLDER_OF_CRDS]"""

import sys
from pathlib import Path

import rules
import schemas
from manifests import Manifests, build, roots


def main(folder: str | None) -> int:
    custom = schemas.definitions(Path(folder)) if folder else None
    found = 0
    for root in roots():
        label = f"{root.parent.name}/{root.name}"
        objects = build(root)
        mistakes = schemas.mistakes(objects, custom) + rules.mistakes(Manifests(objects))
        for mistake in mistakes:
            print(f"{label}: {mistake}")
        print(f"{label}: {len(objects)} objects, {len(mistakes)} mistakes")
        found += len(mistakes)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
