#!/usr/bin/env bash
# Generates a TypeScript client from docs/openapi.json and compiles a program that uses it. Prints the program's path.
set -euo pipefail
cd "$(dirname "$0")/../../.."

source=local/contract/client
folder=target/contract/client
mkdir -p "$folder"
cp "$source"/{package.json,package-lock.json,send.ts,tsconfig.json} "$folder"
# The copy in node_modules says what is installed.
if ! cmp -s "$source/package-lock.json" "$folder/node_modules/.installed"; then
  (cd "$folder" && npm ci --no-audit --no-fund >&2)
  cp "$source/package-lock.json" "$folder/node_modules/.installed"
fi
"$folder/node_modules/.bin/openapi-typescript" docs/openapi.json --output "$folder/openapi.d.ts" >&2
"$folder/node_modules/.bin/tsc" --project "$folder"
echo "$PWD/$folder/send.js"
