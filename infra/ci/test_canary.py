"""canary.py against a program `aws` that keeps aliases and alarms in a file."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

CANARY = Path(__file__).with_name("canary.py")

# Alarms have a list of states, one for each look; the last one stays. `fail` has the calls that fail, by their number from 1.
FAKE = r'''#!%s -IS
import fcntl, json, os, sys
path = os.environ["FAKE_AWS"]
with open(path, "r+", encoding="utf-8") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    world = json.load(file)
    given = sys.argv[1:]
    def option(name):
        return given[given.index(name) + 1]
    answer, error = {}, None
    if given[1] == "get-alias":
        name = option("--function-name")
        answer, error = world["aliases"].get(name), None if name in world["aliases"] else "An error occurred (ResourceNotFoundException)"
    elif given[1] == "update-alias":
        answer = {"FunctionVersion": option("--function-version"), "RoutingConfig": json.loads(option("--routing-config"))}
        world["updates"] += 1
        if world["updates"] in world["fail"]:
            error = "An error occurred (ServiceException)"
        elif answer["FunctionVersion"] in answer["RoutingConfig"]["AdditionalVersionWeights"]:
            error = "An error occurred (InvalidParameterValueException)"
        else:
            world["aliases"][option("--function-name")] = answer
            world["history"].append([option("--function-name"), answer["FunctionVersion"], answer["RoutingConfig"]["AdditionalVersionWeights"]])
    elif given[1] == "describe-alarms":
        names = given[given.index("--alarm-names") + 1:given.index("--output")]
        world["looks"] += 1
        if world["looks"] in world["fail_looks"]:
            error = "An error occurred (Throttling)"
        found = [(name, world["alarms"][name]) for name in names if name in world["alarms"]]
        answer = {"MetricAlarms": [{"AlarmName": name, "StateValue": states[0]} for name, states in found]}
        for name, states in found:
            world["alarms"][name] = states[1:] or states
    else:
        error = "no such call: " + " ".join(given)
    file.seek(0); file.truncate(); json.dump(world, file)
if error:
    sys.exit(error)
print(json.dumps(answer))
'''

QUIET = ["INSUFFICIENT_DATA", "OK"]


def alias(version: str, **weights: float) -> dict[str, Any]:
    return {"FunctionVersion": version, "RoutingConfig": {"AdditionalVersionWeights": {name[1:]: weight for name, weight in weights.items()}}}


def outputs(**newest: str) -> str:
    listed = {key: {"name": f"f-{key}", "version": version, "alarm": f"{key}-{version}"} for key, version in newest.items()}
    listed["maintainer"] = {"name": "f-maintainer", "version": "3", "alarm": None}
    return json.dumps({"pipeline": {"value": {"functions": listed}}})


class Canary(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        program = Path(folder.name, "aws")
        program.write_text(FAKE % sys.executable, encoding="utf-8")
        program.chmod(0o755)
        self.file = Path(folder.name, "world.json")
        self.environment = {**os.environ, "PATH": f"{folder.name}:{os.environ['PATH']}", "FAKE_AWS": str(self.file)}
        self.world(aliases={"f-ingest": alias("7"), "f-processor": alias("4")}, alarms={"ingest-8": QUIET, "processor-5": QUIET})

    def world(self, **parts: Any) -> None:
        self.file.write_text(json.dumps({"updates": 0, "looks": 0, "fail": [], "fail_looks": [], "history": [], **self.read(), **parts}), encoding="utf-8")

    def read(self) -> dict[str, Any]:
        return json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(CANARY), *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment)

    def run_canary(self, *arguments: str, given: str) -> tuple[int, str, str]:
        with self.start(*arguments) as process:
            out, log = process.communicate(given, timeout=60)
        return process.returncode, out, log

    def shift(self, given: str | None = None) -> tuple[int, str]:
        given = given or outputs(ingest="8", processor="5")
        status, _, log = self.run_canary("shift", "--wait-sec", "0.2", "--calm-sec", "0.2", "--every-sec", "0.1", given=given)
        return status, log

    def assert_live(self, **versions: str) -> None:
        self.assertEqual(self.read()["aliases"], {f"f-{key}": alias(version) for key, version in versions.items()})

    def test_good_versions_go_live_and_ingest_is_the_last(self) -> None:
        status, log = self.shift()
        self.assertEqual(status, 0, log)
        self.assertEqual(self.read()["history"], [
            ["f-processor", "5", {"4": 0.9}], ["f-processor", "5", {}], ["f-ingest", "8", {"7": 0.9}], ["f-ingest", "8", {}],
        ])

    def test_nothing_new_changes_nothing(self) -> None:
        status, log = self.shift(outputs(ingest="7", processor="4"))
        self.assertEqual((status, self.read()["history"]), (0, []))
        self.assertIn("newest version already", log)

    def test_an_alarm_puts_the_old_version_back(self) -> None:
        self.world(alarms={"ingest-8": QUIET, "processor-5": ["OK", "OK", "ALARM"]})
        status, log = self.shift()
        self.assertEqual(status, 1)
        self.assertIn("ROLLED BACK: a new version fails: processor-5", log)
        self.assert_live(ingest="7", processor="4")
        self.assertNotIn("f-ingest", [step[0] for step in self.read()["history"]])

    def test_an_alarm_puts_back_all_that_moved_together(self) -> None:
        self.world(aliases={"f-scorer": alias("1"), "f-processor": alias("4")}, alarms={"scorer-2": ["OK", "ALARM"], "processor-5": QUIET})
        status, _ = self.shift(outputs(scorer="2", processor="5"))
        self.assertEqual(status, 1)
        self.assert_live(scorer="1", processor="4")

    def test_what_has_gone_live_stays_when_ingest_fails(self) -> None:
        self.world(alarms={"ingest-8": ["OK", "ALARM"], "processor-5": QUIET})
        self.assertEqual(self.shift()[0], 1)
        self.assert_live(ingest="7", processor="5")

    def test_an_alarm_from_before_that_goes_off_is_waited_for(self) -> None:
        self.world(alarms={"ingest-8": QUIET, "processor-5": ["ALARM", "OK"]})
        status, log = self.shift()
        self.assertEqual(status, 0, log)
        self.assertIn("waits until", log)

    def test_an_alarm_from_before_that_stays_on_stops_before_the_shift(self) -> None:
        self.world(alarms={"ingest-8": QUIET, "processor-5": ["ALARM"]})
        status, log = self.shift()
        self.assertEqual((status, self.read()["history"]), (1, []))
        self.assertIn("STOPPED: before the shift, still on: processor-5", log)

    def test_a_fix_goes_out_while_the_alarm_of_another_version_is_on(self) -> None:
        self.world(alarms={"ingest-8": ["ALARM"], "ingest-9": QUIET, "processor-5": QUIET})
        status, log = self.shift(outputs(ingest="9", processor="5"))
        self.assertEqual(status, 0, log)
        self.assert_live(ingest="9", processor="5")

    def test_a_missing_alarm_stops_before_the_shift(self) -> None:
        self.world(alarms={"ingest-8": QUIET})
        status, log = self.shift()
        self.assertEqual((status, self.read()["history"]), (1, []))
        self.assertIn("these alarms do not exist", log)

    def test_an_error_in_the_middle_puts_the_weight_back(self) -> None:
        self.world(fail_looks=[2])
        status, log = self.shift()
        self.assertEqual(status, 1)
        self.assertIn("Throttling", log)
        self.assert_live(ingest="7", processor="4")

    def test_an_error_at_the_last_step_puts_the_weight_back(self) -> None:
        self.world(fail=[2])
        self.assertEqual(self.shift()[0], 1)
        self.assert_live(ingest="7", processor="4")

    def test_putting_back_is_tried_again(self) -> None:
        self.world(fail=[2, 3, 4])
        self.assertEqual(self.shift()[0], 1)
        self.assert_live(ingest="7", processor="4")

    def test_an_alias_that_cannot_be_put_back_has_its_own_status(self) -> None:
        self.world(fail=[2, 3, 4, 5])
        status, log = self.shift()
        self.assertEqual(status, 3)
        self.assertIn("Run: aws lambda update-alias --function-name f-processor --name live --function-version 4", log)

    def test_a_signal_puts_the_weight_back(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number=number):
                self.world(history=[], aliases={"f-ingest": alias("7"), "f-processor": alias("4")})
                with self.start("shift", "--wait-sec", "60", "--every-sec", "60") as process:
                    process.stdin.write(outputs(ingest="8", processor="5"))
                    process.stdin.close()
                    until = time.monotonic() + 30
                    while not self.read_settled().get("history") and time.monotonic() < until:
                        time.sleep(0.05)
                    process.send_signal(number)
                    log = process.stderr.read()
                self.assertEqual(process.returncode, 1, log)
                self.assertIn("interrupted", log)
                self.assert_live(ingest="7", processor="4")

    def read_settled(self) -> dict[str, Any]:
        """The file, unless it is just being written."""
        try:
            return self.read()
        except json.JSONDecodeError:
            return {}

    def test_a_shift_that_was_cut_off_is_ended(self) -> None:
        self.world(aliases={"f-ingest": alias("8", v7=0.9), "f-processor": alias("4")})
        status, out, log = self.run_canary("prepare", given=outputs(ingest="8", processor="5"))
        self.assertEqual((status, json.loads(out)), (0, {"ingest": "7", "processor": "4"}), log)
        self.assert_live(ingest="7", processor="4")

    def test_a_weight_that_somebody_set_on_a_new_version_is_ended(self) -> None:
        self.world(aliases={"f-ingest": alias("7", v8=0.1), "f-processor": alias("4")})
        self.assertEqual(json.loads(self.run_canary("prepare", given=outputs(ingest="8"))[1]), {"ingest": "7"})
        self.assert_live(ingest="7", processor="4")

    def test_a_function_that_is_gone_has_no_live_version(self) -> None:
        self.world(aliases={"f-processor": alias("4")})
        self.assertEqual(json.loads(self.run_canary("prepare", given=outputs(ingest="8", processor="5"))[1]), {"processor": "4"})

    def test_before_the_first_apply_there_is_nothing(self) -> None:
        self.assertEqual(self.run_canary("prepare", given="{}")[:2], (0, "{}\n"))


if __name__ == "__main__":
    unittest.main()
