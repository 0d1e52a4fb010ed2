#!/usr/bin/env bash
# Runs Apache Kafka in the foreground until SIGTERM or Ctrl-C, on loopback only.
#
# Usage: run.sh [PORT [FOLDER]]      PORT: 9092. FOLDER: target/kafka/PORT; kept, and used again by the next run.
#
# FOLDER/more.properties, if there, is added to server.properties with the same ports filled in; its settings win.
# CONTROLLER_PORT (PORT + 1) is where the node connects to itself. ADVERTISED_PORT (PORT) is the port that clients get.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$here/../../target/kafka
port=${1:-9092}
folder=${2:-$target/$port}
controller_port=${CONTROLLER_PORT:-$((port + 1))}
advertised_port=${ADVERTISED_PORT:-$port}

answers() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}
for taken in "$port" "$controller_port"; do
  if answers "$taken"; then
    echo "port $taken for Apache Kafka is taken; choose another: run.sh PORT, or CONTROLLER_PORT=…" >&2
    exit 1
  fi
done

"$here/fetch.sh"
mkdir -p "$folder/data"
folder=$(cd "$folder" && pwd)
properties=("$here/server.properties")
if [ -f "$folder/more.properties" ]; then properties+=("$folder/more.properties"); fi
sed -e "s|@PORT@|$port|" -e "s|@ADVERTISED_PORT@|$advertised_port|" -e "s|@CONTROLLER_PORT@|$controller_port|" \
  -e "s|@DATA@|$folder/data|" "${properties[@]}" >"$folder/server.properties"

libs=$(cd "$target/libs" && pwd)
if [ ! -f "$folder/data/meta.properties" ]; then
  # Any 16 bytes in base64 are fine: the cluster has one node and never meets another one.
  java -XX:TieredStopAtLevel=1 -cp "$libs/*" kafka.tools.StorageTool format \
    --cluster-id Rm9yZWJheUxvY2FsS2Fmaw --config "$folder/server.properties" >/dev/null
fi

# $$ is also the process id of the broker, because `exec` below replaces this shell.
(
  until answers "$port"; do
    kill -0 $$ 2>/dev/null || exit
    sleep 0.2
  done
  echo "Apache Kafka answers at KAFKA_BROKERS=127.0.0.1:$port; data in $folder"
) &
exec java -Xms128m -Xmx512m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -cp "$libs/*" kafka.Kafka "$folder/server.properties"
