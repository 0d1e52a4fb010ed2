"""Moves the alias `live` of each function to the version that was published last, a part of its calls first, and back if that
version fails. Both commands read `terraform output -json` from standard input.

    canary.py prepare                          ends shifts that were cut off; prints the live versions for the variable live_versions
    canary.py shift [--percent N] [--wait-sec N] [--calm-sec N] [--every-sec N]

Exit status of shift: 0 every new version is live; 1 not every one is, no alias has a weight, and the log has the reason; 3 an
alias could not be put back, and the log has the command. While a part of the calls goes to the new version, the alias names the new version and gives
the old one the larger weight: that is how Terraform wants the alias, but for the weight, which it ignores.
"""

import argparse
import json
import math
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import Any, Callable, Iterable, Iterator

ALIAS = "live"

# A version of ingest may write what only the processor of the same build can read, so ingest is the last.
LAST = {"ingest"}

# How often an alias is tried to be put back.
ATTEMPTS = 3

ROLLED_BACK = 1
LEFT_BEHIND = 3


class Stopped(Exception):
    """The shift must not go on; the message says why."""


@dataclass(frozen=True)
class Function:
    key: str
    name: str
    newest: str
    alarm: str


@dataclass(frozen=True)
class Shift:
    function: Function
    old: str


@dataclass(frozen=True)
class Pace:
    percent: int
    wait_sec: float
    # How long an alarm of an earlier try may still be on before the shift: nothing calls the version, so it goes off by itself.
    calm_sec: float
    every_sec: float

    def looks(self, seconds: float) -> Iterator[None]:
        """One look now, and one after each pause until the time is over."""
        yield
        for _ in range(math.ceil(seconds / self.every_sec)):
            time.sleep(self.every_sec)
            yield


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def aws(*arguments: str) -> dict[str, Any]:
    # In a session of its own: Ctrl-C must not end the calls that put an alias back.
    command = ["aws", *arguments, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, check=False)
    if done.returncode != 0:
        raise Stopped(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def functions(outputs: dict[str, Any]) -> list[Function]:
    """Those with an alarm of their own for a new version. Before the first apply there are no outputs."""
    listed = outputs.get("pipeline", {}).get("value", {}).get("functions", {})
    return [Function(key, f["name"], f["version"], f["alarm"]) for key, f in sorted(listed.items()) if f.get("alarm")]


def update(name: str, version: str, weights: dict[str, float]) -> tuple[str, ...]:
    routing = json.dumps({"AdditionalVersionWeights": weights})
    return ("lambda", "update-alias", "--function-name", name, "--name", ALIAS, "--function-version", version, "--routing-config", routing)


def get_alias(name: str) -> dict[str, Any]:
    return aws("lambda", "get-alias", "--function-name", name, "--name", ALIAS)


def weights_of(alias: dict[str, Any]) -> dict[str, float]:
    return (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}


def trusted(alias: dict[str, Any]) -> str:
    """The version that has most of the calls."""
    weights = weights_of(alias)
    shares = {**weights, alias["FunctionVersion"]: 1 - sum(weights.values())}
    return max(shares, key=lambda version: shares[version])


def put_back(function: Function, version: str) -> bool:
    command = update(function.name, version, {})
    for _ in range(ATTEMPTS):
        try:
            aws(*command)
            say(f"{function.name}: version {version} has all calls")
            return True
        except Stopped as failure:
            say(str(failure))
    say(f"{function.name} IS NOT PUT BACK. Run: aws lambda update-alias --function-name {function.name} --name {ALIAS} "
        f"--function-version {version} --routing-config AdditionalVersionWeights={{}}")
    return False


def live_versions(listed: Iterable[Function]) -> dict[str, str]:
    found = {}
    for function in listed:
        try:
            alias = get_alias(function.name)
        except Stopped as failure:
            # The state has a function that is gone: Terraform makes it again, and there is nothing to go back to.
            if "ResourceNotFoundException" in str(failure):
                continue
            raise
        found[function.key] = trusted(alias)
        if weights_of(alias):
            say(f"{function.name}: an earlier shift was cut off")
            aws(*update(function.name, found[function.key], {}))
    return found


def alarm_states(shifts: list[Shift]) -> dict[str, str]:
    names = [shift.function.alarm for shift in shifts]
    answer = aws("cloudwatch", "describe-alarms", "--alarm-types", "MetricAlarm", "--alarm-names", *names)
    states = {alarm["AlarmName"]: alarm["StateValue"] for alarm in answer["MetricAlarms"]}
    missing = sorted(set(names) - states.keys())
    if missing:
        raise Stopped(f"these alarms do not exist, so nothing would notice a failure: {', '.join(missing)}")
    return states


def ringing(shifts: list[Shift]) -> list[str]:
    return sorted(name for name, state in alarm_states(shifts).items() if state == "ALARM")


def wait_for_calm(shifts: list[Shift], pace: Pace) -> None:
    for _ in pace.looks(pace.calm_sec):
        found = ringing(shifts)
        if not found:
            return
        say(f"waits until these alarms of an earlier try are off: {', '.join(found)}")
    raise Stopped(f"before the shift, still on: {', '.join(found)}")


def watch(shifts: list[Shift], pace: Pace) -> None:
    for _ in pace.looks(pace.wait_sec):
        if found := ringing(shifts):
            raise Stopped(f"a new version fails: {', '.join(found)}")


def at_once(call: Callable[[Shift], bool], shifts: list[Shift]) -> list[bool]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(call, shifts))


def move(shifts: list[Shift], pace: Pace) -> int:
    """Moves some functions together: all of them go forward, or none."""
    wait_for_calm(shifts, pace)
    try:
        for shift in shifts:
            aws(*update(shift.function.name, shift.function.newest, {shift.old: 1 - pace.percent / 100}))
            say(f"{shift.function.name}: {pace.percent} % of the calls go to version {shift.function.newest}, the others to {shift.old}")
        watch(shifts, pace)
        for shift in shifts:
            aws(*update(shift.function.name, shift.function.newest, {}))
            say(f"{shift.function.name}: version {shift.function.newest} has all calls")
        return 0
    except (Stopped, KeyboardInterrupt) as reason:
        # A second signal must not end what the first has begun.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say(f"ROLLED BACK: {str(reason) or 'interrupted'}")
        return ROLLED_BACK if all(at_once(lambda shift: put_back(shift.function, shift.old), shifts)) else LEFT_BEHIND


def shift_all(listed: list[Function], pace: Pace) -> int:
    shifts = [Shift(function, trusted(get_alias(function.name))) for function in listed]
    due = [shift for shift in shifts if shift.old != shift.function.newest]
    if not due:
        say("every function has its newest version already")
    for together in ([s for s in due if s.function.key not in LAST], [s for s in due if s.function.key in LAST]):
        if together and (status := move(together, pace)):
            return status
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare")
    shift = commands.add_parser("shift")
    # Less than half, or the version that has most of the calls would be the new one.
    shift.add_argument("--percent", type=int, default=10, choices=range(1, 50), metavar="1..49")
    shift.add_argument("--wait-sec", type=float, default=600)
    shift.add_argument("--calm-sec", type=float, default=600)
    shift.add_argument("--every-sec", type=float, default=15)
    return parser.parse_args()


def main() -> int:
    given = arguments()
    listed = functions(json.load(sys.stdin))
    # SIGINT too: whoever starts us in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        if given.command == "prepare":
            print(json.dumps(live_versions(listed)))
            return 0
        return shift_all(listed, Pace(given.percent, given.wait_sec, given.calm_sec, given.every_sec))
    except Stopped as failure:
        say(f"STOPPED: {failure}")
        return ROLLED_BACK
    except KeyboardInterrupt:
        say("STOPPED: interrupted")
        return ROLLED_BACK


if __name__ == "__main__":
    sys.exit(main())
