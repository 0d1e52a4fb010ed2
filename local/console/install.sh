#!/usr/bin/env bash
# Installs what the tests of the console need besides Node.js and Chromium, and lays them beside it. Prints the folder.
set -euo pipefail
cd "$(dirname "$0")/../.."

source=local/console
folder=target/console
mkdir -p "$folder"
cp "$source"/{package.json,package-lock.json} "$source"/*.mjs "$folder"
# The copy in node_modules says what is installed.
if ! cmp -s "$source/package-lock.json" "$folder/node_modules/.installed"; then
  # Neither package needs a script of its own; Playwright's would fetch a browser.
  (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund >&2)
  cp "$source/package-lock.json" "$folder/node_modules/.installed"
fi
echo "$PWD/$folder"
