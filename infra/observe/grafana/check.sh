#!/usr/bin/env bash
# Checks the dashboards and the table of log messages, and that each rule finds its mistake. Needs .venv; takes seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
export PYTHONDONTWRITEBYTECODE=1

.venv/bin/python infra/observe/grafana/check.py
(cd infra/observe/grafana && ../../../.venv/bin/python -m unittest -q)
(cd infra/observe/logs && ../../../.venv/bin/python -m unittest -q)
