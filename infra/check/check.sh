#!/usr/bin/env bash
# Format, validation and tests of the Terraform modules, and what must hold of their plans. Needs PyYAML in .venv, and no account.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../terraform"

if ! command -v terraform >/dev/null; then
  echo "SKIPPED: infra-check: terraform is not installed"
  exit 0
fi

terraform fmt -check -recursive
for folder in dev production modules/pipeline examples/small; do
  status=0
  ./init.sh "$folder" || status=$?
  if [ "$status" -eq 3 ]; then
    echo "SKIPPED: infra-check: Terraform finds no provider hashicorp/aws; set TF_PLUGIN_DIR to a mirror folder"
    exit 0
  fi
  [ "$status" -eq 0 ] || exit "$status"
  terraform -chdir="$folder" validate -no-color >/dev/null
  echo "$folder is valid"
done

# The two roots are the same but for the values that they pass.
for file in versions.tf variables.tf outputs.tf; do
  cmp "dev/$file" "production/$file"
done
cmp dev/outputs.tf examples/small/outputs.tf

../../.venv/bin/python ../check/run.py
