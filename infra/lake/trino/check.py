"""Runs the views and the queries of docs/archive-queries.md on Trino, and compares the answers with those of the page.

Athena's engine 3 descends from Trino. What this does not show is how Athena reads the objects: Trino gets the lines in its memory.
"""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))

import lake
import samples
from test_queries import PAGE, QUERY

TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d*?)0*)?$")


def quoted(text: str) -> str:
    return "CAST('" + text.replace("'", "''") + "' AS varchar)"


def table(name: str) -> str:
    """A statement that makes a table of lines with what DuckDB reads in the samples."""
    columns = ["line", *lake.keys(lake.TABLES[name]), "$path"]
    names = ", ".join(f'"{column}"' for column in columns)
    rows = samples.rows(f"SELECT {names} FROM {name}")
    if not rows:
        return f"CREATE TABLE {name} AS SELECT " + ", ".join(f"{quoted('')} AS \"{column}\"" for column in columns) + " WHERE false"
    values = ",\n".join("(" + ", ".join(map(quoted, row.values())) + ")" for row in rows)
    return f"CREATE TABLE {name} AS SELECT * FROM (VALUES {values}) made ({names})"


def same_form(text: str) -> str:
    """Trino writes three digits of a second, and Python six or none."""
    return TIME.sub(lambda time: time[1] + (f".{time[2]}" if time[2] else ""), text)


def main() -> int:
    queries = QUERY.findall(PAGE.read_text(encoding="utf-8"))
    made = [table(name) for name in lake.TABLES]
    # As tables: Trino's runner makes no views, and nobody changes what is below them.
    made += [f"CREATE TABLE {name} AS {lake.view_sql(name)}" for name in lake.VIEWS]
    statements = made + [sql for sql, _ in queries]
    command = ["java", "-cp", f"{sys.argv[1]}/*", str(HERE / "Answers.java")]
    trino = subprocess.run(command, input=json.dumps(statements), capture_output=True, text=True)
    if trino.returncode:
        print(trino.stderr, file=sys.stderr)
        return 1
    answers = json.loads(trino.stdout)[len(made) :]
    different = 0
    for (sql, answer), rows in zip(queries, answers, strict=True):
        expected = [[same_form(field) for field in row] for row in csv.reader(io.StringIO(answer))][1:]
        if expected != [[same_form(field) for field in row] for row in rows]:
            different += 1
            print(f"Trino answers otherwise:\n{sql}{rows}")
    print(f"Trino: {len(lake.VIEWS)} views, {len(queries)} queries, {different} other answers")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
