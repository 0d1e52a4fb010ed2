"""Plans made by `terraform test` with a mocked provider, so that no account is needed."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

# How the names of tests of validations begin.
REFUSED = "refuses_"

TERRAFORM = Path(__file__).resolve().parents[1] / "terraform"


class Values(dict[str, Any]):
    """The arguments of a resource. One that AWS chooses is not in a plan, and counts as absent."""

    def __missing__(self, name: str) -> None:
        return None


@dataclass(frozen=True)
class Resource:
    address: str
    type: str
    values: Values


@dataclass
class Plan:
    """The resources that a run of a test would make."""

    run: str
    resources: list[Resource]

    def of(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources if resource.type == kind]

    def functions(self) -> dict[str, Values]:
        """The Lambda functions by their names in the repository, which have no hyphens."""
        return {f.values["function_name"].rsplit("-", 1)[1]: f.values for f in self.of("aws_lambda_function")}

    def environments(self) -> dict[str, dict[str, str]]:
        return {name: (f["environment"] or [{}])[0].get("variables") or {} for name, f in self.functions().items()}


@dataclass
class Tested:
    """What came of the tests of one folder."""

    folder: str
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)


def resources(changes: list[dict[str, Any]]) -> list[Resource]:
    planned = [change for change in changes if change["mode"] == "managed" and change["change"]["after"] is not None]
    return [Resource(change["address"], change["type"], Values(change["change"]["after"])) for change in planned]


def messages(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        # Terraform may print a warning about its own configuration before them.
        if line.startswith("{"):
            yield json.loads(line)


def test(folder: str, packages: Path) -> Tested:
    """Runs the tests of a folder of infra/terraform."""
    command = ["terraform", f"-chdir={TERRAFORM / folder}", "test", "-json", "-verbose", "-var", f"packages_dir={packages}"]
    tested = Tested(folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for message in messages(iter(process.stdout)):
            match message["type"]:
                case "test_run" if message["test_run"]["progress"] == "complete":
                    if message["test_run"]["status"] == "pass":
                        tested.passed += 1
                    else:
                        tested.failed.append(message["test_run"]["run"])
                # A run in which a variable is refused ends with a plan that is not whole.
                case "test_plan" if not message["@testrun"].startswith(REFUSED):
                    tested.plans.append(Plan(f'{folder}/{message["@testrun"]}', resources(message["test_plan"]["resource_changes"])))
                case "diagnostic" if message["diagnostic"]["severity"] == "error":
                    print(f'{folder}: {message["diagnostic"]["summary"]}: {message["diagnostic"]["detail"]}', file=sys.stderr)
    if process.returncode != 0 and not tested.failed:
        tested.failed.append(f"terraform test ended with status {process.returncode}")
    return tested
