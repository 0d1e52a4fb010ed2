#!/bin/sh
# Measures which columns and indexes of events a search by filters needs, on a throw-away PostgreSQL.
#
#   local/bench/search-storage.sh [ROWS [VARIANTS]]
#
# ROWS in each table, two million by default, and the variants of search_storage.sql, by commas, all by default. Each takes
# 1 GB of disk for a million rows. SHARED_BUFFERS is the server's, 1 GB by default.
set -eu

rows=${1:-2000000}
variants=${2:-}
case $rows in
  *[!0-9]* | '') echo "usage: search-storage.sh [ROWS [VARIANTS]]" >&2; exit 2 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=local/bench/throwaway-postgres.sh
. "$here/throwaway-postgres.sh"
start_postgres 9 shared_buffers="${SHARED_BUFFERS:-1GB}" max_wal_size=4GB work_mem=64MB jit=off plan_cache_mode=force_generic_plan
sql -v rows="$rows" -v variants="$variants" -f "$here/search_storage.sql"
