#!/usr/bin/env bash
# Prints the folder with prometheus and promtool: that of the PATH, or target/tools/prometheus, where Debian's package is unpacked.
# It is not installed: its service would start on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if command -v promtool >/dev/null && command -v prometheus >/dev/null; then
  dirname "$(command -v promtool)"
  exit 0
fi
folder=$PWD/target/tools/prometheus
if [ ! -x "$folder/usr/bin/promtool" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "prometheus and promtool are missing: install Prometheus 2.42 or newer with your package manager, then run this again." >&2
    exit 1
  fi
  # Unpacked beside it first: a run that is cut off leaves no half of it.
  rm -rf "$folder.new"
  mkdir -p "$folder.new"
  # Without an index the package has no address yet; with an old one it may be gone.
  download() { (cd "$folder.new" && apt-get download -qq prometheus >&2); }
  if ! download 2>/dev/null; then
    run_as_root=()
    [ "$(id -u)" -eq 0 ] || run_as_root=(sudo)
    "${run_as_root[@]}" apt-get update -qq
    download
  fi
  dpkg -x "$folder.new"/prometheus_*.deb "$folder.new"
  rm "$folder.new"/prometheus_*.deb
  rm -rf "$folder"
  mv "$folder.new" "$folder"
fi
echo "$folder/usr/bin"
