#!/usr/bin/env bash
# Stops the containers and removes them. down.sh --volumes also removes their data.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/compose.sh" --profile observe down --remove-orphans "$@"
rm -f "$here/../../target/stack.env"
