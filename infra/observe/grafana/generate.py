"""Writes the dashboards as JSON. Usage: generate.py"""

import json
from pathlib import Path

from boards import ALL
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from panels import Board

FOLDER = Path(__file__).resolve().parent / "dashboards"


def text(board: Board) -> str:
    return json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def files() -> dict[Path, str]:
    return {FOLDER / f"{board.name}.json": text(board) for board in ALL}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    made = files()
    for old in set(FOLDER.glob("*.json")) - made.keys():
        old.unlink()
    for file, content in made.items():
        file.write_text(content, encoding="utf-8")
    print(f"{len(made)} dashboards, {sum(len(board.build().panels) for board in ALL)} panels and rows")


if __name__ == "__main__":
    main()
