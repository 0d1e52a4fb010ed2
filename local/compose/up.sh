#!/usr/bin/env bash
# Starts the containers, waits until all are healthy, and writes the file in which `make reconcile` and the like find them.
# up.sh --profile observe also starts Prometheus, Grafana and Jaeger, and has the functions send traces to it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
set -a
if [ -f "$root/local/.env" ]; then
  # shellcheck source=/dev/null
  . "$root/local/.env"
fi
set +a
# The environment wins over the file .env, which compose reads, too.
case " $* " in *" --profile observe "*) export TRACES=otlp ;; esac

"$here/compose.sh" "$@" up --detach --wait --wait-timeout "${WAIT_SEC:-400}"

mkdir -p "$root/target"
cat >"$root/target/stack.env" <<VARIABLES
ARCHIVE_BUCKET='forebay-archive'
AWS_ACCESS_KEY_ID='local'
AWS_SECRET_ACCESS_KEY='local'
AWS_REGION='eu-west-1'
AWS_ENDPOINT_URL_DYNAMODB='http://127.0.0.1:${DYNAMODB_PORT:-8000}'
AWS_ENDPOINT_URL_LAMBDA='http://127.0.0.1:${LAMBDA_PORT:-9000}'
AWS_ENDPOINT_URL_S3='http://127.0.0.1:${S3_PORT:-8014}'
DATABASE_URL='postgres://forebay:${POSTGRES_PASSWORD:-forebay}@127.0.0.1:${POSTGRES_PORT:-54320}/forebay?sslmode=disable'
INGEST_PORT='${INGEST_PORT:-8080}'
KAFKA_BROKERS='127.0.0.1:${KAFKA_PORT:-9092}'
KAFKA_SECURITY='plaintext'
VARIABLES
echo "ingest      http://127.0.0.1:${INGEST_PORT:-8080}/events"
echo "query       http://127.0.0.1:${QUERY_PORT:-8081}/events/<id>"
echo "functions   make invoke FUNCTION=maintainer EVENT=create-key"
echo "traffic     make demo TARGET=compose"
echo "proof       make reconcile"
