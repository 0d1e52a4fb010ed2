"""Runs every query of docs/archive-queries.md, and compares the answer with the one that stands below it."""

import contextlib
import io
import re
import sys
import unittest
from pathlib import Path
from unittest import mock

import ask
import samples

PAGE = Path(__file__).resolve().parents[2] / "docs/archive-queries.md"
QUERY = re.compile(r"```sql\n(.*?)```\n\n```csv\n(.*?)```", re.DOTALL)


def called(*arguments: str) -> tuple[int, str, str]:
    """What the program ends with and writes."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", ["ask", *arguments]), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = ask.main()
    return status, out.getvalue(), err.getvalue()


class Page(unittest.TestCase):
    def test_every_query_has_the_answer_of_the_page(self) -> None:
        page = PAGE.read_text(encoding="utf-8")
        queries = QUERY.findall(page)
        self.assertEqual(page.count("```sql"), len(queries), "a query without an answer")
        for sql, answer in queries:
            with self.subTest(sql=sql):
                self.assertEqual((0, answer, ""), called("--at", str(samples.FOLDER), "--csv", sql))


class Program(unittest.TestCase):
    FOLDER = ("--at", str(samples.FOLDER))

    def test_forms(self) -> None:
        sql = "SELECT status, count(*) AS n FROM processed_events WHERE status = 'valid' GROUP BY status"
        self.assertEqual((0, '{"status": "valid", "n": 3}\n', ""), called(*self.FOLDER, "--json", sql))
        self.assertEqual((0, "status,n\nvalid,3\n", ""), called(*self.FOLDER, "--csv", sql))
        self.assertIn("│ valid   │     3 │", called(*self.FOLDER, sql)[1])

    def test_what_is_wrong_is_said_in_a_sentence(self) -> None:
        for arguments, problem in (
            ((*self.FOLDER, " "), "there is no question"),
            ((*self.FOLDER, "SELEC 1"), 'syntax error at or near "SELEC"'),
            ((*self.FOLDER, "SELECT nothing FROM raw_events"), '"nothing" not found'),
            ((*self.FOLDER, "SELECT 1 FROM no_events"), "no_events does not exist"),
            (("--at", "/no/folder", "SELECT 1 FROM raw_events"), "there is no folder /no/folder"),
            (("--at", str(samples.HERE / "views"), "SELECT 1 FROM raw_events"), "has no objects that this query could read"),
        ):
            status, out, err = called(*arguments)
            self.assertEqual((1, ""), (status, out))
            self.assertTrue(err.startswith("ask: ") and "Traceback" not in err, err)
            self.assertIn(problem, err)


if __name__ == "__main__":
    unittest.main()
