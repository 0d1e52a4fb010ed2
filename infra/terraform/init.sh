#!/usr/bin/env bash
# Runs `terraform init` in a folder, without a backend. The provider comes from TF_PLUGIN_DIR, or a mirror folder of this
# machine, or else from where Terraform finds providers itself. Usage: init.sh FOLDER
# Exit status 3: there is no provider to be had.
set -euo pipefail

folder=${1:?usage: init.sh FOLDER}

# A mirror is a folder with HOST/hashicorp/aws/VERSION/PLATFORM below it.
mirror() {
  local candidate
  for candidate in "${TF_PLUGIN_DIR:-}" ~/.terraform.d/plugins /usr/local/share/terraform/plugins /usr/share/terraform/plugins /opt/*; do
    if [ -n "$candidate" ] && compgen -G "$candidate/*/hashicorp/aws/*/*/terraform-provider-aws*" >/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

plugins=$(mirror)
if ! output=$(terraform -chdir="$folder" init -backend=false -input=false -no-color ${plugins:+-plugin-dir="$plugins"} 2>&1); then
  echo "$output" >&2
  case $output in
    *"Failed to query available provider packages"* | *"Failed to install provider"*) exit 3 ;;
    *) exit 1 ;;
  esac
fi
