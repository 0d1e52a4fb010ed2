#!/usr/bin/env bash
# Posts events one by one, each over a connection of its own, and prints how each call ended. Runs in the cluster, in an image
# that has bash and nothing else. Usage: load.sh RUN SECONDS WORKERS, with the key in API_KEY.
set -uo pipefail

run=$1 seconds=$2 workers=$3
host=ingest
end=$((SECONDS + seconds))

# Prints the status of the answer, or what went wrong.
post() {
  local body=$1 answer
  exec 3<>"/dev/tcp/$host/80" || { echo no-connection; return; }
  printf 'POST /events HTTP/1.1\r\nhost: %s\r\nx-api-key: %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s' \
    "$host" "$API_KEY" "${#body}" "$body" >&3
  if IFS=' ' read -r -t 20 _ answer _ <&3 && [ -n "$answer" ]; then echo "$answer"; else echo no-answer; fi
  exec 3>&-
}

worker() {
  local number=0
  while [ $SECONDS -lt $end ]; do
    number=$((number + 1))
    post "{\"type\":\"click\",\"id\":\"$run-$1-$number\",\"user_id\":\"u$1\",\"campaign_id\":\"c\",\"geo_country\":\"DE\",\"device_type\":\"mobile\"}"
  done
}

for number in $(seq "$workers"); do worker "$number" 2>/dev/null & done
wait
