"""What the tests have in common: the archive of the fixture, and questions to it."""

from pathlib import Path
from typing import Any

import archive
import lake

HERE = Path(__file__).parent
FOLDER = HERE / "fixture/archive"


def keys() -> list[str]:
    """Of real objects, which the archiver wrote."""
    return sorted(archive.Folder(FOLDER).list(""))


def ask(sql: str, folder: Path = FOLDER) -> tuple[list[dict[str, Any]], archive.Archive]:
    """The rows, and the archive that they come from."""
    found = archive.Archive(archive.Folder(folder))
    with lake.connect(found) as database:
        lake.define(database, found, sql)
        answer = database.sql(sql)
        return [dict(zip(answer.columns, row)) for row in answer.fetchall()], found


def rows(sql: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
    return ask(sql, folder)[0]
