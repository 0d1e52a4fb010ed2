# Sourced: a PostgreSQL that ends with the shell. start_postgres takes the number of a migration and settings of the server, and
# applies the migrations up to that one, which is the schema that was decided about; sql is psql there. Needs the folder of the
# script as $here.
# shellcheck shell=sh

bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || { echo "PostgreSQL is missing: make setup installs it" >&2; exit 1; }
folder=$(mktemp -d)
chmod 755 "$folder"

# PostgreSQL refuses to run as root.
as_user() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
[ "$(id -u)" != 0 ] || chown postgres "$folder"

finish() {
  as_user "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$folder"
}
trap finish EXIT
# dash runs no EXIT trap when a signal ends it.
trap 'exit 130' INT TERM

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
sql() { "$bin/psql" -h 127.0.0.1 -p "$port" -U forebay -X -q -v ON_ERROR_STOP=1 -P footer=off "$@" postgres; }

start_postgres() {
  last=$1
  shift
  options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories="
  for setting in "$@"; do options="$options -c $setting"; done
  as_user "$bin/initdb" -D "$folder/data" -U forebay --auth=trust -N >/dev/null
  # fsync stays on, as in production. autovacuum would slow down one of the tables at a time.
  as_user "$bin/pg_ctl" -D "$folder/data" -w -l "$folder/log" -o "$options -c autovacuum=off \
    -c max_parallel_workers_per_gather=0 -c timezone=UTC" start >/dev/null
  for migration in $(find "${here:?}/../../shared/postgres/migrations" -name 'V*.sql' | sort -V); do
    version=${migration##*/V}
    [ "${version%%__*}" -gt "$last" ] || sql -1 -f "$migration"
  done
}
