"""Counts the records of a topic that are in the archive, from the names of its objects on standard input, one key a line."""

import re
import sys

NAME = re.compile(r"partition=(\d+)/(\d{20})-(\d{20})\.ndjson\.zst")


def covered(names: list[str]) -> int:
    """Objects that overlap count once."""
    spans = sorted((int(p), int(first), int(last) + 1) for p, first, last in NAME.findall("\n".join(names)))
    total, partition, end = 0, -1, 0
    for of, first, after in spans:
        if of != partition:
            partition, end = of, 0
        total += max(0, after - max(first, end))
        end = max(end, after)
    return total


print(covered(sys.stdin.read().splitlines()))
