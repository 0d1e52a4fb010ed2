"""The tables and views of tables.json, in DuckDB over an archive."""

import json
import re
from pathlib import Path
from string import Template

import duckdb

from archive import EXTENSION, SCHEME, Archive

HERE = Path(__file__).parent
DEFINED = json.loads((HERE / "tables.json").read_text(encoding="utf-8"))
TABLES: dict[str, str] = DEFINED["tables"]
VIEWS: dict[str, dict[str, str]] = {view["name"]: view for view in DEFINED["views"]}

# The largest line that shared/archive reads has 64 MiB (shared/archive/src/single.rs).
LONGEST_LINE = 64 * 1024 * 1024

# The views are written for Athena. What DuckDB calls otherwise gets Athena's name here. A value that is no JSON has no fields.
MACROS = (
    "json_extract_scalar(j, path) AS "
    "TRY(CASE WHEN json_type(j, path) NOT IN ('OBJECT', 'ARRAY', 'NULL') THEN json_extract_string(j, path) END)",
    "from_unixtime(seconds) AS to_timestamp(seconds)",
    "from_iso8601_timestamp(text) AS CAST(text AS TIMESTAMPTZ)",
    "to_utf8(text) AS encode(text)",
)


COMMENT = re.compile(r"--.*")
KEY_PART = re.compile(r"\$\{(\w+)\}")


def keys(template: str) -> list[str]:
    """The parts of an object's key that are columns."""
    return KEY_PART.findall(template)


def view_sql(name: str) -> str:
    """The query of a view, as Athena and DuckDB get it."""
    view = VIEWS[name]
    text = (HERE / "views" / view["file"]).read_text(encoding="utf-8")
    if "lines" not in view:
        return text
    columns = "".join(f"{key}, " for key in keys(TABLES[view["lines"]]))
    # Not substitute: the dollar of a JSON path is no placeholder.
    return Template(text).safe_substitute(keys=columns, lines=view["lines"])


def connect(archive: Archive) -> duckdb.DuckDBPyConnection:
    """A database in memory that fetches nothing: extensions come from a host that a query must not need."""
    database = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    database.execute("SET TimeZone = 'UTC'")
    for macro in MACROS:
        database.execute(f"CREATE MACRO {macro}")
    database.register_filesystem(archive)
    return database


def define(database: duckdb.DuckDBPyConnection, archive: Archive, sql: str, done: set[str] | None = None) -> set[str]:
    """Makes the tables and views that the query names, and those that they name: a table that is made is listed, and a listing
    of a large bucket takes time."""
    done = set() if done is None else done
    for name in sorted(set(re.findall(r"\w+", COMMENT.sub("", sql)))):
        if name in done or name not in VIEWS | TABLES:
            continue
        done.add(name)
        if name in VIEWS:
            query = view_sql(name)
            define(database, archive, query, done)
        else:
            query = lines_sql(archive, TABLES[name])
        database.execute(f"CREATE VIEW {name} AS {query}")
    return done


def lines_sql(archive: Archive, template: str) -> str:
    """The lines as text, one column: a control character, which JSON has none of, separates nothing."""
    columns = keys(template)
    # What is below the columns of the table: see shared/archive/README.md.
    below = "partition=*/*" if columns else "topic=*/partition=*/*"
    pattern = f"{SCHEME}://{KEY_PART.sub('*', template)}{below}{EXTENSION}"
    if not archive.glob(pattern):
        none = ", ".join(f"'' AS {name}" for name in ("line", *columns, '"$path"'))
        return f"SELECT {none} WHERE false"
    selected = "".join(f"{name}, " for name in columns)
    return f"""
        SELECT line, {selected}replace(filename, '{SCHEME}://', '') AS "$path"
        FROM read_csv('{pattern}', columns = {{line: 'VARCHAR'}}, auto_detect = false, header = false, compression = 'zstd',
          delim = '\x01', quote = '', escape = '', new_line = '\\n', max_line_size = {LONGEST_LINE}, filename = true,
          hive_partitioning = true, hive_types_autocast = false)"""
