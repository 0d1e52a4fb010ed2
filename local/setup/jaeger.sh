#!/usr/bin/env bash
# Prints the path of Jaeger: that of the PATH, or target/tools/jaeger/jaeger, which is built from its Go module. jaeger.yaml beside this
# script is a configuration for it. Its pages are not in the module, its API is (docs/traces.md).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if command -v jaeger >/dev/null; then
  command -v jaeger
  exit 0
fi
# The last version under the name that the module had when it was both Jaeger 1 and 2: it is 2.13.0.
version=v1.76.0
folder=$PWD/target/tools/jaeger
if [ ! -x "$folder/jaeger" ]; then
  if ! command -v go >/dev/null; then
    echo "Jaeger cannot be built: install Go 1.25 or newer, or Jaeger 2 itself, then run this again." >&2
    exit 1
  fi
  echo "building Jaeger from its Go module: this takes minutes, and 3 GB of disk while it does" >&2
  # Built beside it first: a run that is cut off leaves no half of it. Modules and cache go there too, because nothing else needs them.
  rm -rf "$folder.new"
  mkdir -p "$folder.new"
  export GOMODCACHE=$folder.new/modules GOCACHE=$folder.new/cache GOFLAGS=-modcacherw
  module=$(go mod download -json "github.com/jaegertracing/jaeger@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  # Not `go install`, which refuses a module with replacements of others.
  if ! CGO_ENABLED=0 go build -C "$module" -trimpath -ldflags '-s -w' -o "$folder.new/jaeger" ./cmd/jaeger 2>"$folder.new/log"; then
    tail -n 20 "$folder.new/log" >&2
    exit 1
  fi
  rm -rf "$folder.new/modules" "$folder.new/cache" "$folder.new/log" "$folder"
  mv "$folder.new" "$folder"
fi
echo "$folder/jaeger"
