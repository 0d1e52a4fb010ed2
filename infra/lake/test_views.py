"""The views have every record as it was, and read no more objects than they must."""

import base64
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import lake
import samples

sys.path.append(str(samples.HERE / "fixture"))

import make


def text_of(encoded: str | None) -> tuple[str | None, str | None]:
    """The text and the Base64 of what the archiver got: one of them is null."""
    if encoded is None:
        return None, None
    try:
        return base64.b64decode(encoded).decode(), None
    except UnicodeDecodeError:
        return None, encoded


def header_of(signed: list[int] | None) -> str | None:
    """A header as the archive has it; Lambda delivers bytes as Java has them, from -128."""
    if signed is None:
        return None
    text, encoded = text_of(base64.b64encode(bytes(byte % 256 for byte in signed)).decode())
    return encoded if text is None else text


def expected(record: dict[str, Any]) -> dict[str, Any]:
    key, key_base64 = text_of(record["key"])
    value, value_base64 = text_of(record["value"])
    return {
        "topic": record["topic"],
        "kafka_partition": record["partition"],
        "kafka_offset": record["offset"],
        "ms": record["timestamp"] if record["timestamp"] != -1 else None,
        "key": key,
        "key_base64": key_base64,
        "value": value,
        "value_base64": value_base64,
        "value_bytes": len(base64.b64decode(record["value"] or "")),
    }


def place(record: dict[str, Any]) -> tuple[str, int, int]:
    return record["topic"], record["kafka_partition"], record["kafka_offset"]


COLUMNS = "topic, kafka_partition, kafka_offset, CAST(1000 * epoch(kafka_timestamp) AS bigint) AS ms, key, key_base64, value, value_base64, value_bytes"


class Records(unittest.TestCase):
    def test_every_record_is_as_it_was_sent(self) -> None:
        sent = {place(record): record for batch in make.BATCHES for record in map(expected, batch)}
        for view, topic in (("raw_events", "raw-events"), ("processed_events", "processed-events")):
            found = samples.rows(f"SELECT DISTINCT {COLUMNS} FROM {view}")
            of_topic = {at: record for at, record in sent.items() if at[0] == topic}
            self.assertEqual(of_topic, {place(record): record for record in found})

    def test_headers_are_a_list_whatever_is_in_them(self) -> None:
        sent = {(r["partition"], r["offset"]): r["headers"] for batch in make.BATCHES[:3] for r in batch}
        for row in samples.rows("SELECT kafka_partition, kafka_offset, headers FROM raw_events"):
            headers = {header["name"]: header.get("value", header.get("value_base64")) for header in json.loads(row["headers"])}
            delivered = [pair for header in sent[row["kafka_partition"], row["kafka_offset"]] for pair in header.items()]
            self.assertEqual({name: header_of(signed) for name, signed in delivered}, headers)

    def test_keys_that_differ_only_in_case_are_two_fields(self) -> None:
        fields = "json_extract_scalar(value, '$.id') AS lower, json_extract_scalar(value, '$.ID') AS upper"
        self.assertEqual([{"lower": "1", "upper": "2"}], samples.rows(f"SELECT {fields} FROM raw_events WHERE value LIKE '%ID%'"))

    def test_the_first_of_two_equal_keys_is_read(self) -> None:
        fields = "json_extract_scalar(value, '$.data.a') AS a, json_extract_scalar(value, '$.data') AS data"
        self.assertEqual([{"a": "1", "data": None}], samples.rows(f"SELECT {fields} FROM raw_events WHERE event_id = 'view-2'"))

    def test_a_value_that_no_reader_takes_has_no_fields_and_fails_no_query(self) -> None:
        sql = "SELECT event_id, value LIKE '%1E400%' AS whole FROM raw_events WHERE dt = '2026-11-21'"
        self.assertEqual([{"event_id": None, "whole": True}], samples.rows(sql))

    def test_a_record_without_a_time_is_there(self) -> None:
        sql = "SELECT kafka_timestamp, value FROM raw_events WHERE dt = 'unknown'"
        self.assertEqual([{"kafka_timestamp": None, "value": "null"}], samples.rows(sql))

    def test_an_hour_without_objects_has_no_rows(self) -> None:
        self.assertEqual([], samples.rows("SELECT * FROM raw_events WHERE dt = '2026-11-20' AND hour = '19'"))


class ObjectsOfOneRecord(unittest.TestCase):
    """Those that functions write beside the archiver. A letter and a record have the same line."""

    def test_they_are_tables_too(self) -> None:
        one = next(key for key in samples.keys() if "/dt=unknown/" in key)
        with tempfile.TemporaryDirectory() as folder:
            for prefix, suffix in (("quarantine", ""), ("parked", ".a3")):
                # shared/pipeline/src/object_name.rs
                copy = Path(folder, f"{prefix}/topic=raw-events/partition=1/00000000000000000008.{'0' * 32}{suffix}.ndjson.zst")
                copy.parent.mkdir(parents=True)
                shutil.copy(samples.FOLDER / one, copy)
            for view in ("quarantined_records", "parked_letters"):
                self.assertEqual([{"kafka_offset": 8}], samples.rows(f"SELECT kafka_offset FROM {view}", Path(folder)))

    def test_a_table_without_objects_is_empty(self) -> None:
        self.assertEqual([{"n": 0}], samples.rows("SELECT count(*) AS n FROM parked_letters"))


class Reading(unittest.TestCase):
    def opened(self, sql: str) -> list[str]:
        return sorted(set(samples.ask(sql)[1].opened))

    def test_a_condition_on_the_hour_reads_its_objects_alone(self) -> None:
        of_table = [key for key in samples.keys() if key.startswith("raw/")]
        self.assertEqual(of_table, self.opened("SELECT count(*) FROM raw_events"))
        two_hours = "dt = '2026-11-20' AND hour BETWEEN '17' AND '18'"
        wanted = [key for key in of_table if "/dt=2026-11-20/hour=17/" in key or "/dt=2026-11-20/hour=18/" in key]
        self.assertEqual((7, 4), (len(of_table), len(wanted)))
        self.assertEqual(wanted, self.opened(f"SELECT tenant, count(DISTINCT event_id) FROM raw_events WHERE {two_hours} GROUP BY tenant"))
        self.assertEqual(wanted, self.opened(f"SELECT count(*) FROM (SELECT * FROM raw_events) WHERE {two_hours}"))

    def test_a_condition_on_the_status_does_too(self) -> None:
        letters = [key for key in samples.keys() if "status=dead_lettered" in key]
        self.assertEqual(letters, self.opened("SELECT reason, count(*) FROM dead_letter_events GROUP BY reason"))

    def test_only_the_tables_of_a_query_are_listed(self) -> None:
        found = samples.archive.Archive(samples.archive.Folder(samples.FOLDER))
        with lake.connect(found) as database:
            needed = {"dead_letter_events", "processed_events", "outcome_records", "outcome_lines"}
            self.assertEqual(needed, lake.define(database, found, "FROM dead_letter_events"))


if __name__ == "__main__":
    unittest.main()
