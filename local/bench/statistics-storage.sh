#!/bin/sh
# Measures where the values that statistics need could be stored, on a throw-away PostgreSQL: for ADR 0038.
#
#   local/bench/statistics-storage.sh [ROWS]
#
# ROWS in each of eight tables, a million by default: these take 5 minutes and 4 GB of disk.
set -eu

rows=${1:-1000000}
case $rows in
  *[!0-9]* | '') echo "usage: statistics-storage.sh [ROWS]" >&2; exit 2 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=local/bench/throwaway-postgres.sh
. "$here/throwaway-postgres.sh"
start_postgres 9 shared_buffers=256MB max_wal_size=512MB work_mem=64MB
sql -v rows="$rows" -f "$here/statistics_storage.sql"
