"""The messages that the programs log, as the source has them, docs/logs.md and the saved queries."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "docs/logs.md"
SAVED_QUERIES = ROOT / "infra/observe/logs-insights"
# The programs that are deployed; the test kit is part of none.
SOURCES = ("functions/*/src", "shared/*/src", "local/esm/src")
NOT_DEPLOYED = ("shared/testkit/",)

CALL = re.compile(r"\b(info|warn|error)!\(")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
# Of CloudWatch Logs Insights.
# In backquotes and of four words or more, which no name of a setting, metric or tag has.
QUOTED = re.compile(r"`([a-zA-Z][\w']*(?:\s[\w',;:()-]+){3,})`")
COMMANDS = {"aws", "curl", "kubectl", "local", "make", "psql"}
ASKED = re.compile(r'\bmessage = "([^"]+)"')
ROW = re.compile(r"^\| `(?P<message>[^`]+)` \| (?P<level>\w+) \|", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Message:
    text: str
    level: str


class NoMessage(Exception):
    """A call whose message cannot be read: it must be a literal, as the last argument, so that it can be searched for."""


def program(source: str) -> str:
    """Without unit tests, which are the last part of a file, and without comments on lines of their own."""
    lines = source.split("#[cfg(test)]\nmod ")[0].splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("//"))


def arguments(source: str, start: int) -> str:
    """What stands between the parenthesis before `start` and its partner."""
    depth, at = 1, start
    while depth:
        if literal := STRING.match(source, at):
            at = literal.end()
            continue
        depth += {"(": 1, ")": -1}.get(source[at], 0)
        at += 1
    return source[start : at - 1]


def unescaped(literal: str) -> str:
    # A backslash at the end of a line takes the break and the blanks after it away.
    return re.sub(r"\\\n\s*", "", literal[1:-1]).replace('\\"', '"')


def calls(source: str) -> Iterator[Message]:
    code = program(source)
    for call in CALL.finditer(code):
        of_call = arguments(code, call.end()).rstrip().rstrip(",").rstrip()
        literals = list(STRING.finditer(of_call))
        if not literals or literals[-1].end() != len(of_call):
            raise NoMessage(of_call)
        yield Message(unescaped(literals[-1].group()), call[1])


def in_source() -> set[Message]:
    found = set()
    for file in (file for folder in SOURCES for file in sorted(ROOT.glob(f"{folder}/**/*.rs"))):
        name = str(file.relative_to(ROOT))
        if name.startswith(NOT_DEPLOYED):
            continue
        try:
            found |= set(calls(file.read_text(encoding="utf-8")))
        except NoMessage as error:
            raise NoMessage(f"{name}: {error}") from error
    return found


def in_table(markdown: str) -> list[Message]:
    return [Message(row["message"], row["level"]) for row in ROW.finditer(markdown)]


def quoted(text: str) -> set[str]:
    """What a text quotes as the programs' own words."""
    found = (words.split() for words in QUOTED.findall(text))
    return {" ".join(words) for words in found if words[0] not in COMMANDS}


def in_saved_queries() -> dict[str, list[str]]:
    return {file.name: ASKED.findall(file.read_text(encoding="utf-8")) for file in sorted(SAVED_QUERIES.glob("*.txt"))}
