#!/usr/bin/env bash
# Builds every function for AWS Lambda and packs it into target/package. Usage: package.sh CARGO_LAMBDA [FUNCTION…]
# ARCHITECTURE: arm64 (the default) or x86_64. Where arm64 cannot be built, says so and builds x86_64.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

cargo_lambda=${1:?usage: package.sh CARGO_LAMBDA [FUNCTION…]}
shift
functions=("$@")
if [ ${#functions[@]} -eq 0 ]; then
  for folder in functions/*/; do functions+=("$(basename "$folder")"); done
fi

architecture=${ARCHITECTURE:-arm64}
case $architecture in
  arm64) target=aarch64-unknown-linux-gnu ;;
  x86_64) target=x86_64-unknown-linux-gnu ;;
  *)
    echo "ARCHITECTURE must be arm64 or x86_64" >&2
    exit 2
    ;;
esac

# cargo-lambda would ask rustup for what is missing, which needs the network.
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
  echo "SKIPPED: package for $architecture: the Rust standard library for $target is missing (rustup target add $target)"
  architecture=x86_64
  target=x86_64-unknown-linux-gnu
fi

packages=()
for function in "${functions[@]}"; do packages+=(--package "$function"); done

# The suffix is the glibc that programs may need at most: zig links against it.
# cargo-lambda finds the zig that came with it on the path.
PATH="$(cd "$(dirname "$cargo_lambda")" && pwd):$PATH" "$cargo_lambda" lambda build --release --locked --target "$target.2.34" "${packages[@]}"
python3 infra/package/zips.py target/lambda target/package "${functions[@]}"
echo "built for $architecture: set architecture = \"$architecture\" in Terraform if it is not arm64"
