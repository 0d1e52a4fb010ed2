#!/usr/bin/env bash
# Builds the images, starts the containers, sends traffic, kills containers under traffic, accounts for every event, and takes
# everything down. Needs a Docker engine and its compose plugin. PREBUILT and RIE are passed on to images.sh;
# EVENTS=5000 KILL="esm" make it shorter.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
stack=${1:?usage: test.sh PROGRAM, the path of stack}
# Sent in each round: enough that the traffic still runs when a container is killed.
events=${EVENTS:-20000}
# In the order in which they are killed; each is the only one of its kind.
kill=${KILL:-processor esm archiver-raw ingest}

if ! docker info >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1; then
  echo "SKIPPED: compose-test needs a Docker engine and docker compose; the containers are NOT tested"
  exit 0
fi

compose() { "$here/compose.sh" "$@"; }
say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
fail() {
  say "FAILED: $*"
  compose ps --all || true
  compose logs --tail 20 || true
  exit 1
}
all_of() { docker "$1" ls --quiet --filter "label=com.docker.compose.project=forebay" "${@:2}"; }

[ -z "$(all_of container --all)" ] || fail "containers of this project exist already: make stack-down VOLUMES=1"
trap '"$here/down.sh" --volumes >/dev/null 2>&1 || true' EXIT

"$here/images.sh"
say "the images are built"
"$here/image.py"
say "each image is one manifest for this machine"
"$here/up.sh" >/dev/null 2>&1 || fail "not every container became healthy"
unhealthy=$(docker ps --filter "label=com.docker.compose.project=forebay" --format '{{.Names}} {{.Status}}' | grep -vc '(healthy)' || true)
[ "$unhealthy" = 0 ] || fail "$unhealthy containers are not healthy"
say "$(all_of container | wc -l) containers are healthy"

scorer="http://127.0.0.1:${SCORER_PORT:-8082}/2015-03-31/functions/scorer/invocations"
at_once=$("$here/at_once.py" "$scorer" events/scorer/batch.json 50) || fail "50 calls of scorer at once: $at_once"
say "calls of scorer at once over HTTP: $at_once"

account() {
  "$stack" reconcile >target/compose-reconcile.log || fail "reconcile: $(cat target/compose-reconcile.log)"
}
"$stack" demo --running --events "$events" | tail -n 1 >target/compose-demo.log || fail "the demo: $(cat target/compose-demo.log)"
grep -q '"unaccounted":0' target/compose-demo.log || fail "$(cat target/compose-demo.log)"
say "demo: $(cat target/compose-demo.log)"
account
say "reconcile: every record has one outcome and is in the archive"

for service in $kill; do
  "$stack" demo --running --events "$events" >target/compose-demo.log 2>&1 &
  demo=$!
  sleep 3
  kill -0 "$demo" 2>/dev/null || fail "the traffic ended before $service was killed: $(tail -n 1 target/compose-demo.log)"
  container=$(compose ps --quiet "$service")
  docker kill --signal KILL "$container" >/dev/null
  # The engine does not start a container again that was killed by its command.
  docker start "$container" >/dev/null
  wait "$demo" || fail "after $service was killed: $(tail -n 1 target/compose-demo.log)"
  account
  restarts=$(all_of container | xargs docker inspect --format '{{.RestartCount}}' | awk '{ sum += $1 } END { print sum }')
  say "$service killed: $(tail -n 1 target/compose-demo.log | grep -o '"accepted":[0-9]*\|"duplicate":[0-9]*\|"seconds":[0-9.]*\|"unaccounted":[0-9]*' | tr '\n' ' '), restarts by the engine so far: $restarts"
done

trap - EXIT
"$here/down.sh" --volumes >/dev/null 2>&1
left="$(all_of container --all)$(all_of volume)$(all_of network)"
[ -z "$left" ] || fail "left behind: $left"
say "nothing is left behind"
