"""Tests the Terraform modules and the plans of all variants. Needs Terraform and a provider, and no account."""

import hashlib
import re
import sys
import zipfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "cost"))

import assertions
import cost
import floor
import mutations
import plans
import readme

PACKAGES = readme.ROOT / "target" / "infra-check" / "packages"
POLICIES = readme.ROOT / "target" / "infra-check" / "policies"
FOLDERS = ("modules/pipeline", "dev", "production", "examples/small")

# What the small set-up promises, in USD a month.
SMALL_COSTS_LESS_THAN = 100


def make_packages() -> None:
    """Zips that a plan can hash; nothing runs them."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    for function in readme.FUNCTIONS:
        with zipfile.ZipFile(PACKAGES / f"{function}.zip", "w") as package:
            package.writestr("bootstrap", function)


def write_policies(made: list[plans.Plan]) -> None:
    """For `make infra-lint`: every policy of every plan, each once."""
    POLICIES.mkdir(parents=True, exist_ok=True)
    for old in POLICIES.iterdir():
        old.unlink()
    for plan in made:
        for policy in plan.of("aws_iam_role_policy"):
            text = policy.values["policy"]
            (POLICIES / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json").write_text(text, encoding="utf-8")


def refused_values() -> int:
    text = (plans.TERRAFORM / "modules/pipeline/tests/validations.tftest.hcl").read_text(encoding="utf-8")
    return len(re.findall(r"^    var\.\w+,$", text, re.MULTILINE))


def validations() -> int:
    text = (plans.TERRAFORM / "modules/pipeline/variables.tf").read_text(encoding="utf-8")
    return text.count("\n  validation {")


def floors(made: list[plans.Plan]) -> list[str]:
    """Shows what each root costs by the month; a small one that is not small is a problem."""
    problems = []
    for plan in made:
        folder, run = plan.run.rsplit("/", 1)
        if folder == "modules/pipeline":
            continue
        usd = cost.total(floor.lines(plan))
        print(f"{folder} ({run}): {usd:.2f} USD a month without events")
        if folder == "examples/small":
            print("\n".join(cost.table("its price list", floor.lines(plan))))
            if usd >= SMALL_COSTS_LESS_THAN:
                problems.append(f"{plan.run}: {usd:.2f} USD a month, and not less than {SMALL_COSTS_LESS_THAN}")
    return problems


def main() -> int:
    make_packages()
    tested = [plans.test(folder, PACKAGES) for folder in FOLDERS]
    problems = [f"{result.folder}: the test {name} failed" for result in tested for name in result.failed]
    made = [plan for result in tested for plan in result.plans]
    write_policies(made)
    for plan in made:
        problems += [f"{plan.run}: {problem}" for check in assertions.CHECKS for problem in check(plan)]
    if made:
        problems += assertions.permissions(made)
        problems += floors(made)
        problems += mutations.unnoticed(made)
    if refused_values() < validations():
        problems.append(f"{validations()} validations, but tests of {refused_values()}: each needs one")
    seen = set()
    for problem in problems:
        if assertions.words(problem) not in seen:
            print(problem)
        seen.add(assertions.words(problem))
    runs = sum(result.passed for result in tested)
    print(
        f"terraform test: {runs} runs, {refused_values()} refused values for {validations()} validations; "
        f"{len(assertions.CHECKS) + 1} checks of {len(made)} plans, tried on {len(mutations.MUTATIONS)} broken ones: "
        f"{len(problems)} problems"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
