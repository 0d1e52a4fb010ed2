#!/usr/bin/env bash
# Checks the Dockerfile and compose.yaml within seconds; no Docker engine is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ -x .venv/bin/hadolint ]; then
  .venv/bin/hadolint local/Dockerfile
  echo "hadolint: local/Dockerfile is good"
else
  echo "SKIPPED: hadolint is not installed, local/Dockerfile is not checked"
fi

# The plugin of docker, or the same program from PyPI.
if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
elif [ -x .venv/bin/docker-compose ]; then
  compose=(.venv/bin/docker-compose)
else
  echo "SKIPPED: docker compose is not installed, local/compose.yaml is not checked"
  exit 0
fi
for profile in "" observe; do
  COMPOSE_PROFILES=$profile "${compose[@]}" --env-file local/images.env --project-directory local --file local/compose.yaml \
    config --quiet
  COMPOSE_PROFILES=$profile "${compose[@]}" --env-file local/images.env --env-file local/.env.example \
    --project-directory local --file local/compose.yaml config --quiet
done
echo "docker compose config: local/compose.yaml is good"
