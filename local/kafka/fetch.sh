#!/usr/bin/env bash
# Installs what an Apache Kafka broker needs, unless it is there: Java 17, Maven, and the jars in target/kafka/libs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
libs=$here/../../target/kafka/libs

# Which pom the jars are from: another version in the pom fetches anew.
stamp=$libs/.fetched-for
if [ -f "$stamp" ] && cmp -s "$here/pom.xml" "$stamp" && command -v java >/dev/null; then
  exit 0
fi

packages=()
command -v java >/dev/null || packages+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || packages+=(maven)
if [ ${#packages[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "Apache Kafka needs Java 17 or later and Maven. Missing here: ${packages[*]}" >&2
    echo "Debian, Ubuntu: sudo apt-get install ${packages[*]}; Fedora: sudo dnf install java-17-openjdk-headless maven;" >&2
    echo "macOS: brew install openjdk@17 maven" >&2
    exit 1
  fi
  echo "installing ${packages[*]}" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >&2
fi

echo "fetching the jars of Apache Kafka (45 MB)" >&2
mkdir -p "$libs"
rm -f "$stamp" "$libs"/*.jar
mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$(cd "$libs" && pwd)" >&2
cp "$here/pom.xml" "$stamp"
