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

# The package of the same name on PyPI fetches a release when it is installed; as a Go module it is built from source.
version=v1.7.9
folder=target/tools/actionlint-$version
if [ ! -x "$folder/actionlint" ] && command -v go >/dev/null; then
  GOBIN="$PWD/$folder" go install "github.com/rhysd/actionlint/cmd/actionlint@$version" || true
fi
if [ -x "$folder/actionlint" ]; then
  "$folder/actionlint"
  echo "actionlint $version: no findings"
else
  echo "SKIPPED: actionlint: Go, or the module, is not to be had"
fi
