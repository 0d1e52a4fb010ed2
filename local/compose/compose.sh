#!/usr/bin/env bash
# docker compose with this project's files: compose.sh ps, compose.sh logs esm.
set -euo pipefail
local=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
files=(--env-file "$local/images.env")
if [ -f "$local/.env" ]; then files+=(--env-file "$local/.env"); fi
exec docker compose "${files[@]}" --project-directory "$local" --file "$local/compose.yaml" "$@"
