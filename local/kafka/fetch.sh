#!/usr/bin/env bash
# Downloads the jars of Apache Kafka into target/kafka/libs, unless they are there already. Needs Java 17 and Maven.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
libs=$here/../../target/kafka/libs

"$here/../setup/install.sh" kafka

# The pom that the jars were downloaded for: a change of the pom downloads them again.
stamp=$libs/.fetched-for
if [ -f "$stamp" ] && cmp -s "$here/pom.xml" "$stamp"; then
  exit 0
fi

echo "downloading the jars of Apache Kafka (45 MB)" >&2
mkdir -p "$libs"
rm -f "$stamp" "$libs"/*.jar
mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$(cd "$libs" && pwd)" >&2
cp "$here/pom.xml" "$stamp"
