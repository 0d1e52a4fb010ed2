"""Answers a question in SQL from the archive. `make ask SQL="…"` calls it."""

import argparse
import csv
import json
import shutil
import signal
import sys

import duckdb

import archive
import lake

# More are for --csv or --json.
MOST_ROWS_OF_A_TABLE = 1000


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ask", description="Views: " + ", ".join(lake.VIEWS) + ". See docs/archive-queries.md.")
    parser.add_argument("sql", metavar="SQL", help="one statement of DuckDB")
    parser.add_argument("--at", metavar="PLACE", help="a folder, or s3://bucket/prefix (default: the stack that runs here)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object for each row")
    form.add_argument("--csv", action="store_true", help="comma-separated values with a header")
    return parser


def show(answer: duckdb.DuckDBPyRelation, arguments: argparse.Namespace) -> None:
    if arguments.json:
        for row in answer.fetchall():
            print(json.dumps(dict(zip(answer.columns, row)), ensure_ascii=False, default=str))
    elif arguments.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows(answer.fetchall())
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1_000_000
        answer.show(max_width=width, max_rows=MOST_ROWS_OF_A_TABLE)


def ask(arguments: argparse.Namespace) -> None:
    if not arguments.sql.strip():
        raise archive.ArchiveError('there is no question: make ask SQL="SELECT count(*) FROM raw_events"')
    found = archive.find(arguments.at)
    database = lake.connect(found)
    try:
        named = lake.define(database, found, arguments.sql)
        if named and found.is_empty():
            raise archive.ArchiveError(f"the archive {found.name} has no objects that this query could read")
        if answer := database.sql(arguments.sql):
            show(answer, arguments)
    except duckdb.Error as error:
        raise found.problem or archive.ArchiveError(str(error)) from error


def main() -> int:
    # Whoever reads only the first lines ends this program, as any other.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        ask(parser().parse_args())
    except archive.ArchiveError as error:
        print(f"ask: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
