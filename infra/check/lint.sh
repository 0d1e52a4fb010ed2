#!/usr/bin/env bash
# Linters of others, which take minutes: checkov on the modules, parliament on the policies of the last infra-check, zizmor and
# actionlint on the workflows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

.venv/bin/checkov --directory infra/terraform --framework terraform --compact --quiet --config-file infra/check/checkov.yaml

if [ -d target/infra-check/policies ]; then
  .venv/bin/python infra/check/policies.py target/infra-check/policies
else
  echo "SKIPPED: parliament: run make infra-check first, which finds the policies"
fi

.venv/bin/zizmor --offline --no-progress .github/workflows
if command -v actionlint >/dev/null; then
  actionlint
else
  echo "SKIPPED: actionlint is not installed"
fi
