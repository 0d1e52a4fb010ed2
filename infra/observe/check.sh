#!/usr/bin/env bash
# Checks the list of alerts, and tests the rules that are made from it. Needs PyYAML in .venv, and no running Prometheus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PYTHONDONTWRITEBYTECODE=1

(cd infra/observe && ../../.venv/bin/python -m unittest -q)
.venv/bin/python infra/observe/check.py

if ! tools=$(local/setup/prometheus.sh); then
  echo "SKIPPED: promtool is not to be had, so no rule of Prometheus is tested"
  exit 0
fi
"$tools/promtool" check rules infra/observe/prometheus/rules.yaml
"$tools/promtool" test rules infra/observe/prometheus/tests/*.yaml
