#!/usr/bin/env bash
# Fetches the definitions of the custom resources that the components use, from their Go modules, into the folder OUT.
# Usage: crds.sh OUT
set -euo pipefail

out=${1:?usage: crds.sh OUT}
modules=$out/modules

# Copies files of a module: fetch MODULE@VERSION FILE…
fetch() {
  local module=$1 folder
  shift
  folder=$(GOMODCACHE=$modules GOFLAGS=-modcacherw go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  for file in "$@"; do cp "$folder/$file" "$out/"; done
}

# Older than this script, it may lack what was added here.
[ "$out/complete" -nt "$0" ] && exit 0
command -v go >/dev/null || { echo "go is not installed" >&2; exit 1; }
mkdir -p "$modules"
modules=$(cd "$modules" && pwd)
fetch github.com/kedacore/keda/v2@v2.21.0 config/crd/bases/keda.sh_{scaledobjects,triggerauthentications}.yaml
fetch github.com/prometheus-operator/prometheus-operator@v0.85.0 \
  example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml
fetch github.com/external-secrets/external-secrets@v1.3.2 config/crds/bases/external-secrets.io_externalsecrets.yaml
# Only these files are needed again.
rm -rf "$modules"
touch "$out/complete"
