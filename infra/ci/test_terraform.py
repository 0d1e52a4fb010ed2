"""terraform.sh with programs `terraform` and `aws` that only note how they were called."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).with_name("terraform.sh")

OUTPUTS = {"pipeline": {"value": {"functions": {"query": {"name": "f-query", "version": "2", "alarm": "query-2"}}}}}

TERRAFORM = """#!/bin/bash
echo "terraform $1 live=${TF_VAR_live_versions:-}" >>"$CALLS"
if [ "$1" = output ]; then echo '%s'; fi
""" % json.dumps(OUTPUTS)

AWS = """#!/bin/bash
echo "aws $2" >>"$CALLS"
case $2 in
  get-alias) echo '{"FunctionVersion": "1"}' ;;
  update-alias) echo '{}' ;;
  describe-alarms) echo '{"MetricAlarms": [{"AlarmName": "query-2", "StateValue": "'"$STATE"'"}]}' ;;
esac
"""


class Terraform(unittest.TestCase):
    def run_script(self, *arguments: str, state: str = "OK") -> tuple[int, list[str]]:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("terraform", TERRAFORM), ("aws", AWS)):
                Path(folder, name).write_text(text, encoding="utf-8")
                Path(folder, name).chmod(0o755)
            calls = Path(folder, "calls")
            environment = {
                **os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls), "STATE": state, "STATE_BUCKET": "bucket",
                "TF_VAR_region": "eu-west-1", "CANARY_ARGUMENTS": "--wait-sec 0 --calm-sec 0",
            }
            done = subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, check=False)
            return done.returncode, calls.read_text(encoding="utf-8").splitlines()

    def test_deploy_applies_with_the_old_versions_live_and_then_moves_them(self) -> None:
        status, calls = self.run_script("dev", "deploy")
        held = 'live={"query": "1"}'
        self.assertEqual((status, calls), (0, [
            "terraform init live=", "terraform output live=", "aws get-alias",
            f"terraform plan {held}", f"terraform apply {held}", "terraform output live=",
            "aws get-alias", "aws describe-alarms", "aws update-alias", "aws describe-alarms", "aws update-alias",
        ]))

    def test_deploy_fails_with_the_shift(self) -> None:
        status, calls = self.run_script("dev", "deploy", state="ALARM")
        self.assertEqual(status, 1)
        self.assertFalse([call for call in calls if "update-alias" in call])

    def test_apply_moves_nothing_by_itself(self) -> None:
        status, calls = self.run_script("production", "apply")
        self.assertEqual((status, calls), (0, ["terraform init live=", "terraform plan live=", "terraform apply live="]))

    def test_another_command_is_refused(self) -> None:
        self.assertEqual(self.run_script("dev", "destroy")[0], 2)


if __name__ == "__main__":
    unittest.main()
