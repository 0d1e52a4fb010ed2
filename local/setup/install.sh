#!/usr/bin/env bash
# Installs what the machine lacks, from its own package manager, and only that. Safe to run again.
# Usage: install.sh base|chaos|check|chromium|kafka|node|pooler|python
set -euo pipefail

group=${1:?usage: install.sh base|chaos|check|chromium|kafka|node|pooler|python}
missing=()

has() { command -v "$1" >/dev/null 2>&1; }
has_postgres() { has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }

case $group in
  base)
    if ! has cargo; then
      echo "Rust 1.95 or newer is missing: install it with rustup (see the Rust web site), then run this again." >&2
      exit 1
    fi
    has cc || missing+=(gcc libc6-dev)
    has_postgres || missing+=(postgresql)
    has openssl || missing+=(openssl)
    ;;
  chaos)
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || missing+=(libfaketime)
    ;;
  kafka)
    has java || missing+=(openjdk-17-jre-headless)
    has mvn || missing+=(maven)
    has openssl || missing+=(openssl)
    ;;
  chromium)
    [ -n "${CHROMIUM:-}" ] || has chromium || missing+=(chromium)
    ;;
  check)
    has shellcheck || missing+=(shellcheck)
    ;;
  node)
    has node || missing+=(nodejs)
    has npm || missing+=(npm)
    ;;
  pooler)
    has pgbouncer || [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
    ;;
  python)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    ;;
  *)
    echo "no such group: $group" >&2
    exit 2
    ;;
esac

[ ${#missing[@]} -eq 0 ] && exit 0

run_as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if has sudo; then run_as_root=(sudo); else has_root=no; fi
fi
if ! has apt-get || [ "${has_root:-yes}" = no ]; then
  echo "missing on this machine: ${missing[*]} (Debian's names). Install them with your package manager, then run this again." >&2
  exit 1
fi

echo "installing ${missing[*]}" >&2
# A server package must not start a cluster of its own: we start throw-away ones.
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
  "${run_as_root[@]}" mkdir -p /etc/postgresql-common
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    echo 'create_main_cluster = false' | "${run_as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
fi
"${run_as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${run_as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
