#!/usr/bin/env bash
# Checks the manifests without a cluster, in seconds: schemas, rules, and that each rule finds its mistake.
# Needs kubectl, and python3 for a virtual environment in .venv. Usage: run.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."
export PYTHONDONTWRITEBYTECODE=1

if ! command -v kubectl >/dev/null; then
  echo "SKIPPED: k8s-check needs kubectl, which is not installed"
  exit 0
fi
local/setup/install.sh python
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
crds=target/k8s-check/crds
if ! infra/k8s/checks/crds.sh "$crds"; then
  echo "SKIPPED: custom resources are not checked against their definitions, which could not be fetched"
  crds=
fi
.venv/bin/python infra/k8s/checks/check.py ${crds:+"$crds"}
.venv/bin/python infra/k8s/checks/test_rules.py
