#!/usr/bin/env bash
# Builds the images: all of them, or those that are named. With PREBUILT=FOLDER the programs are not compiled in a container but
# taken from there, where cargo has built them (target/release), and the emulator from RIE=FILE or from PATH.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
# shellcheck source=/dev/null
. local/images.env
prebuilt=target/images
programs=(esm stack services)
for folder in functions/*/; do programs+=("$(basename "$folder")"); done
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=("${programs[@]}" emulator)

binaries=compiled
# An empty folder will do where the programs are compiled in a container.
rm -rf "$prebuilt"
mkdir -p "$prebuilt"
if [ -n "${PREBUILT:-}" ]; then
  binaries=prebuilt
  for program in "${programs[@]}"; do install --strip "$PREBUILT/$program" "$prebuilt/"; done
  cp "${RIE:-$(command -v aws-lambda-rie)}" "$prebuilt/aws-lambda-rie"
  cp /etc/ssl/certs/ca-certificates.crt "$prebuilt/"
fi

# Lambda refuses an image index, and an SBOM or provenance that buildx attaches makes one of an image.
export DOCKER_BUILDKIT=1 BUILDX_NO_DEFAULT_ATTESTATIONS=1
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
for program in "${wanted[@]}"; do
  target=function
  case $program in esm | stack | services | emulator) target=$program ;; esac
  docker build --quiet --file local/Dockerfile --target "$target" --tag "forebay/$program:$FOREBAY_TAG" \
    --build-arg "RUST_IMAGE=$RUST_IMAGE" --build-arg "GO_IMAGE=$GO_IMAGE" --build-arg "DEBIAN_IMAGE=$DEBIAN_IMAGE" \
    --build-arg "EMULATOR_VERSION=$EMULATOR_VERSION" --build-arg "BINARIES=$binaries" --build-arg "PROGRAM=$program" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" . >/dev/null
  size=$(docker image inspect --format '{{.Size}}' "forebay/$program:$FOREBAY_TAG")
  printf '%-28s %6d MB\n' "forebay/$program:$FOREBAY_TAG" "$((size / 1000000))"
done

crates=()
for program in "${wanted[@]}"; do
  [ "$program" = emulator ] || crates+=("$program")
done
local/compose/sbom.py "${crates[@]}"
echo "target/sbom has the crates that each program links"
