#!/usr/bin/env bash
# Plans or applies a root without asking anybody. Usage: terraform.sh dev|production plan|apply [ARGUMENT…]
# STATE_BUCKET: the bucket of the state, in the region of TF_VAR_region.
set -euo pipefail
root=${1:?usage: terraform.sh dev|production plan|apply [ARGUMENT…]}
command=${2:?usage: terraform.sh dev|production plan|apply [ARGUMENT…]}
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/../terraform/$root"

terraform init -input=false -backend-config="bucket=${STATE_BUCKET:?}" -backend-config="key=forebay/$root.tfstate" \
  -backend-config="region=${TF_VAR_region:?}"
case $command in
  plan) terraform plan -input=false "$@" ;;
  # What is applied is what the log shows.
  apply)
    terraform plan -input=false -out=reviewed.tfplan "$@"
    terraform apply -input=false reviewed.tfplan
    ;;
  *)
    echo "no such command: $command" >&2
    exit 2
    ;;
esac
