"""The prefixes of the tables against real keys, and against what the source says of keys."""

import re
import unittest
from pathlib import Path

import lake
import samples

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = {
    "shared/archive/src/key.rs": r"^//! ((?:raw|outcomes)/\S+\.ndjson\.zst)$",
    "shared/pipeline/src/object_name.rs": r'"((?:quarantine|parked)/topic=\S+\.ndjson\.zst)"',
}


def tables_of(key: str) -> list[str]:
    """The tables that have the object in one of their partitions."""
    patterns = {name: "[^/]+".join(map(re.escape, lake.KEY_PART.sub("*", template).split("*"))) for name, template in lake.TABLES.items()}
    return [name for name, pattern in patterns.items() if re.match(pattern, key)]


def statuses() -> list[str]:
    """The prefixes of shared/archive/src/key.rs: the outcomes, and one for what none of them is."""
    outcomes = (ROOT / "shared/pipeline/src/outcome.rs").read_text(encoding="utf-8")
    variants = re.findall(r"^    (\w+),$", outcomes.partition("pub enum Outcome {")[2].partition("}")[0], re.MULTILINE)
    return [re.sub(r"(?<!^)(?=[A-Z])", "_", variant).lower() for variant in variants] + ["unknown"]


class Keys(unittest.TestCase):
    def test_the_statuses_are_those_of_the_source(self) -> None:
        self.assertEqual(statuses(), lake.DEFINED["statuses"])

    def test_every_object_of_the_archiver_is_in_one_table(self) -> None:
        for key in samples.keys():
            expected = "raw_lines" if key.startswith("raw/") else "outcome_lines"
            self.assertEqual([expected], tables_of(key), key)

    def test_the_keys_in_the_source_are_in_one_table(self) -> None:
        for file, pattern in DOCUMENTED.items():
            keys = re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
            self.assertTrue(keys, file)
            for key in keys:
                self.assertEqual(1, len(tables_of(key)), key)

    def test_the_page_has_the_prefixes(self) -> None:
        page = (ROOT / "docs/archive-queries.md").read_text(encoding="utf-8")
        for name, template in lake.TABLES.items():
            row = next(line for line in page.splitlines() if line.startswith("| `") and f"`{name}`" in line)
            self.assertIn(f"`{template}`" if lake.keys(template) else "none", row)

    def test_duckdb_finds_all_of_them(self) -> None:
        found = set()
        for table in ("raw_lines", "outcome_lines"):
            found |= {row["object"] for row in samples.rows(f'SELECT DISTINCT "$path" AS object FROM {table}')}
        self.assertEqual(samples.keys(), sorted(found))


if __name__ == "__main__":
    unittest.main()
