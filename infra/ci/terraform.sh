#!/usr/bin/env bash
# Plans or applies a root (dev, production, examples/small) without asking anybody.
# Usage: terraform.sh ROOT plan|apply|deploy [ARGUMENT…]
# apply: a new version of a function has all calls at once. deploy: a part of them first (canary.py, with CANARY_ARGUMENTS).
# STATE_BUCKET: the bucket of the state, in the region of TF_VAR_region.
set -euo pipefail
usage="usage: terraform.sh ROOT plan|apply|deploy [ARGUMENT…]"
root=${1:?$usage}
command=${2:?$usage}
shift 2
ci=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$ci/../terraform/$root"

terraform init -input=false -backend-config="bucket=${STATE_BUCKET:?}" -backend-config="key=forebay/$root.tfstate" \
  -backend-config="region=${TF_VAR_region:?}"
export AWS_REGION=$TF_VAR_region

# What is applied is what the log shows.
apply() {
  terraform plan -input=false -out=reviewed.tfplan "$@"
  terraform apply -input=false reviewed.tfplan
}

case $command in
  plan) terraform plan -input=false "$@" ;;
  apply) apply "$@" ;;
  deploy)
    outputs=$(terraform output -json)
    live=$(python3 "$ci/canary.py" prepare <<<"$outputs")
    echo "live versions: $live"
    TF_VAR_live_versions=$live apply "$@"
    outputs=$(terraform output -json)
    # In place of this shell, so that a signal reaches it. The arguments are words.
    # shellcheck disable=SC2086
    exec python3 "$ci/canary.py" shift ${CANARY_ARGUMENTS:-} <<<"$outputs"
    ;;
  *)
    echo "no such command: $command" >&2
    exit 2
    ;;
esac
