#!/usr/bin/env bash
# Fetches the files in vendor/ anew, from the packages that package-lock.json names by version and hash.
# Usage: vendor.sh [--check], which changes nothing and fails if a file differs from the one of its package.
set -euo pipefail
cd "$(dirname "$0")/../../.."

source=functions/query/assets
folder=target/console-assets
# A file of vendor/, and where it is in the packages.
files=(
  "htmx.min.js htmx.org/dist/htmx.min.js"
  "htmx.LICENSE htmx.org/LICENSE"
  "uPlot.iife.min.js uplot/dist/uPlot.iife.min.js"
  "uPlot.min.css uplot/dist/uPlot.min.css"
  "uPlot.LICENSE uplot/LICENSE"
)

case ${1:-} in
  '' | --check) ;;
  *)
    echo "usage: vendor.sh [--check]" >&2
    exit 2
    ;;
esac

mkdir -p "$folder"
cp "$source"/{package.json,package-lock.json} "$folder"
# Always anew: a file that somebody changed in an old copy would pass.
(cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund >&2)

if [ -z "${1:-}" ]; then
  rm -rf "$source/vendor"
  mkdir "$source/vendor"
  for file in "${files[@]}"; do
    read -r name path <<<"$file"
    cp "$folder/node_modules/$path" "$source/vendor/$name"
  done
  exit 0
fi

wrong=0
for file in "${files[@]}"; do
  read -r name path <<<"$file"
  if ! cmp "$source/vendor/$name" "$folder/node_modules/$path" >&2; then
    echo "DIFFERS: $source/vendor/$name is not the package's $path" >&2
    wrong=1
  fi
done
for file in "$source"/vendor/*; do
  case " ${files[*]} " in
    *" ${file##*/} "*) ;;
    *)
      echo "UNKNOWN: $file is of no package" >&2
      wrong=1
      ;;
  esac
done
if [ "$wrong" -ne 0 ]; then
  echo "functions/query/assets/vendor.sh copies the files of the packages anew" >&2
  exit 1
fi
echo "the files in $source/vendor are those of their packages"
