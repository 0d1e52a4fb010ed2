#!/usr/bin/env python3
"""Calls a function many times at once and prints how each call ended: at_once.py URL EVENT.json COUNT. Status 1 unless all succeed."""

import collections
import json
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path


def call(url: str, event: bytes) -> str:
    """How a call ended. A function error is HTTP 200, and under the emulator only the body says so."""
    request = urllib.request.Request(url, data=event, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}: {error.read()[:100]!r}"
    except OSError as error:
        return f"no answer: {error}"
    try:
        parsed = json.loads(body)
    except ValueError:
        return f"no JSON: {body[:100]!r}"
    if isinstance(parsed, dict) and "errorType" in parsed:
        return f"function error: {parsed['errorType']}"
    return "answered"


def main(url: str, sample: str, count: int) -> int:
    event = Path(sample).read_bytes()
    ends: list[str] = []
    start = threading.Barrier(count)

    def client() -> None:
        start.wait()
        ends.append(call(url, event))

    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for end, times in collections.Counter(ends).most_common():
        print(f"{times} of {count}: {end}")
    return int(ends.count("answered") != count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
