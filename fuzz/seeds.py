#!/usr/bin/env python3
"""Writes the seed corpora, fuzz/corpus/<target>/seed-*, from the sample invocations in events/.

Run it after samples were added; the files are committed, so that fuzzing needs no Python.
"""

import base64
import json
import shutil
import subprocess
from pathlib import Path

FUZZ = Path(__file__).parent
EVENTS = FUZZ.parent / "events"
# A trigger event with a large batch would only slow the fuzzer down.
MAX_SEED_BYTES = 16 * 1024


def samples(function):
    for file in sorted((EVENTS / function).glob("*.json")):
        yield file.stem, file.read_text()


class Corpus:
    def __init__(self, target):
        self.folder = FUZZ / "corpus" / target
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob("seed-*"):
            old.unlink()

    def add(self, name, content):
        content = content.encode() if isinstance(content, str) else content
        if content and len(content) <= MAX_SEED_BYTES:
            (self.folder / f"seed-{name}").write_bytes(content)


def records(event):
    for batch in event.get("records", {}).values():
        yield from batch


def decoded(text):
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def line(record):
    """A record as a line of the archive; see shared/archive/src/line.rs."""
    names = ["topic", "partition", "offset", "timestamp"]
    out = {name: record[name] for name in names} | {"key": None, "headers": []}
    if record.get("key"):
        out["key"] = decoded(record["key"]).decode(errors="replace")
    headers = record.get("headers") or []
    for name, value in (pair for header in headers if isinstance(header, dict) for pair in header.items()):
        is_bytes = isinstance(value, list) and all(isinstance(byte, int) for byte in value)
        text = bytes(byte & 255 for byte in value).decode(errors="replace") if is_bytes else None
        out["headers"].append({"name": name, "value": text})
    value = decoded(record["value"]) if record.get("value") else None
    try:
        out["value"] = None if value is None else json.loads(value)
    except ValueError:
        out["value_base64"] = base64.b64encode(value).decode()
    return json.dumps(out, separators=(",", ":"))


def event_bodies():
    events, batches = Corpus("event_body"), Corpus("batch_body")
    for case, text in samples("ingest"):
        request = json.loads(text)
        body = request["body"]
        if request.get("isBase64Encoded"):
            continue
        headers = request.get("headers", {})
        attributes = [f"{name[3:]}:{value}" for name, value in headers.items() if name.startswith("ce-")]
        events.add(case, "\n".join(attributes) + "\n\n" + body if attributes else body)
        batches.add(case, body)
        try:
            content = json.loads(body)
        except ValueError:
            continue
        items = content if isinstance(content, list) else content.get("events", [])
        for index, item in enumerate(items):
            events.add(f"{case}-{index}", json.dumps(item))
        batches.add(f"{case}-lines", "\n".join(json.dumps(item) for item in items))


def http_triggers():
    corpus = Corpus("http_trigger")
    for function in ["ingest", "query"]:
        for case, text in samples(function):
            corpus.add(f"{function}-{case}", text)
    # Lines of the target: path, query string, Host, X-Forwarded-Proto, name and value of a header, body.
    page = '{"type":"page_view","path":"/"}'
    for name, lines in [
        ("plain", ["/events", "a=1", "a.example", "https", "accept", "*/*", page]),
        ("stage", ["/prod/events", "", "[::1", "ht tp", "content-type", "application/json", page]),
        ("odd", ["/events/%2F é?#", "%zz&=", "a:99999", "", "a b", "c\t", "bm90IGpzb24="]),
    ]:
        corpus.add(name, "\n".join(lines))


def kafka_events():
    triggers, envelopes = Corpus("kafka_trigger"), Corpus("envelope")
    lines, objects = Corpus("archive_line"), Corpus("archive_object")
    for function in ["processor", "archiver"]:
        for case, text in samples(function):
            event = json.loads(text)
            triggers.add(f"{function}-{case}", json.dumps(event, separators=(",", ":")))
            for record in records(event):
                name = f"{function}-{case}-{record['partition']}-{record['offset']}"
                lines.add(name, line(record))
                if record["topic"] == "raw-events" and record.get("value"):
                    envelopes.add(name, decoded(record["value"]))
            # Three objects that overlap, of the same partition; see the target.
            held = [record | {"topic": "raw-events", "partition": 0} for record in records(event)]
            bodies = [
                "".join(line(record | {"offset": first + index}) + "\n" for index, record in enumerate(held[:count]))
                for first, count in [(0, 4), (2, 3), (3, 3)]
            ]
            objects.add(f"{function}-{case}", b"l" + b"\0".join(body.encode() for body in bodies))
            if shutil.which("zstd") and bodies[1]:
                packed = subprocess.run(["zstd", "-3", "-c"], input=bodies[1].encode(), capture_output=True, check=True)
                objects.add(f"{function}-{case}-compressed", b"z" + packed.stdout)
    lines.add("name-dense", "raw/topic=raw-events/dt=2026-11-20/hour=18/partition=3/"
              "00000000000000000005-00000000000000000009.ndjson.zst")
    lines.add("name-sparse", "outcomes/status=valid/dt=2026-11-20/hour=18/partition=3/"
              "00000000000000000005-00000000000000000009.n3.x0123456789ab.ndjson.zst")


def addresses():
    corpus = Corpus("forwarded_for")
    for index, text in enumerate([
        "203.0.113.7", "203.0.113.7, 10.0.0.2", "203.0.113.7:443,10.0.0.2:80", "[2001:db8::1]:443, ::1",
        "evil\n203.0.113.7, 10.1.2.3", "::ffff:10.0.0.1", "unknown, 10.0.0.1", "224.0.0.1, 0.0.0.0",
    ]):
        corpus.add(index, text)


def requests():
    for target, function in [("redrive_request", "redriver"), ("replay_request", "replayer")]:
        corpus = Corpus(target)
        for case, text in samples(function):
            corpus.add(case, text)


event_bodies()
http_triggers()
kafka_events()
requests()
addresses()
