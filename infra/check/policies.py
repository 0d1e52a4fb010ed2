"""Runs parliament on the policies that `make infra-check` found in the plans. Usage: policies.py FOLDER"""

import sys
from pathlib import Path

import parliament

# With the reason for each.
ACCEPTED = {
    # assertions.py has the list of what takes no ARN.
    "RESOURCE_STAR",
    # lambda:SourceFunctionArn is in every request that is made with the credentials of a function, to whatever service.
    "UNKNOWN_CONDITION_FOR_ACTION",
}


def main(folder: Path) -> int:
    files = sorted(folder.glob("*.json"))
    found = []
    for file in files:
        for finding in parliament.analyze_policy_string(file.read_text(encoding="utf-8")).findings:
            if finding.issue not in ACCEPTED:
                found.append(f"{file.name}: {finding.issue}: {finding.detail} {finding.location}")
    print("\n".join(found + [f"parliament: {len(files)} policies, {len(found)} findings"]))
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
