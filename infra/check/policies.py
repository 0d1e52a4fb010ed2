"""Runs parliament on the policies that `make infra-check` found in the plans. Usage: policies.py FOLDER"""

import sys
from pathlib import Path

import parliament

# With the reason for each.
ACCEPTED = {
    # ec2:* of a function in the VPC and dynamodb:DescribeEndpoints: assertions.py has the list of what takes no ARN.
    "RESOURCE_STAR",
    # kafka-cluster:WriteDataIdempotently is on the cluster, as AWS's table of actions has it.
    "RESOURCE_EFFECTIVELY_STAR",
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
