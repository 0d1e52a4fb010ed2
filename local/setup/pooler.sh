#!/bin/sh
# Runs a command with a throw-away PostgreSQL behind PgBouncer in transaction mode:
#
#   local/setup/pooler.sh cargo test --workspace --test adapter
#
# The command finds it in DATABASE_URL and DB_POOLER. Both servers end with the command.
set -eu

folder=$(mktemp -d)
chmod 755 "$folder"
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || { echo "PostgreSQL is missing: make setup installs it" >&2; exit 1; }
pgbouncer=$(command -v pgbouncer || ls /usr/sbin/pgbouncer 2>/dev/null) ||
    { echo "PgBouncer is missing: local/setup/install.sh pooler installs it" >&2; exit 1; }

# Neither server runs as root.
as_user() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
[ "$(id -u)" != 0 ] || chown postgres "$folder"

finish() {
    [ ! -f "$folder/pgbouncer.pid" ] || kill "$(cat "$folder/pgbouncer.pid")" 2>/dev/null || true
    as_user "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
server=$(free_port)
pooler=$(free_port)
as_user "$bin/initdb" -D "$folder/data" -U forebay --auth=trust -N >/dev/null
as_user "$bin/pg_ctl" -D "$folder/data" -w -l "$folder/log" \
    -o "-p $server -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=200" start >/dev/null
cat >"$folder/pgbouncer.ini" <<END
[databases]
* = host=127.0.0.1 port=$server user=forebay
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $pooler
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 500
default_pool_size = 8
server_idle_timeout = 2
pidfile = $folder/pgbouncer.pid
logfile = $folder/pgbouncer.log
END
as_user "$pgbouncer" -q -d "$folder/pgbouncer.ini"
for _ in $(seq 50); do
    "$bin/pg_isready" -q -h 127.0.0.1 -p "$pooler" && break
    sleep 0.1
done
DATABASE_URL="postgres://forebay@127.0.0.1:$pooler/postgres?sslmode=disable" DB_POOLER=transaction "$@"
