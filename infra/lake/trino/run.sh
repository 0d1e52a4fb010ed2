#!/usr/bin/env bash
# Runs the queries of docs/archive-queries.md on Trino's engine, which comes from Maven Central the first time. Needs Java 17 and Maven.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

jars=$PWD/target/lake-trino
# The pom that the jars were downloaded for: a change of the pom downloads them again.
stamp=$jars/.fetched-for
if ! cmp -s infra/lake/trino/pom.xml "$stamp"; then
  local/setup/install.sh kafka
  echo "downloading the jars of Trino (90 MB)" >&2
  rm -rf "$jars"
  mvn -q -B -f infra/lake/trino/pom.xml dependency:copy-dependencies -DoutputDirectory="$jars" >&2
  cp infra/lake/trino/pom.xml "$stamp"
fi
.venv/bin/python -B infra/lake/trino/check.py "$jars"
