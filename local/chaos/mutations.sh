#!/usr/bin/env bash
# Breaks the pipeline's source on purpose, one patch at a time, and checks that the fault suite fails for each.
# Usage: mutations.sh PROFILE [NAME...]    PROFILE: debug or release. NAME: which patches; all by default.
#
# Each patch is applied to a scratch copy of HEAD. The copy is built in the same target folder, so that dependencies are
# not built again. Its binaries are copied elsewhere at once, and a last build restores the unchanged ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
profile=${1:?usage: mutations.sh debug|release [NAME...]}
shift
root=$PWD
scratch=$root/target/mutations/tree
binaries=$root/target/mutations/bin
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
flags=()
[ "$profile" = release ] && flags+=(--release)

tidy() {
  git worktree remove --force "$scratch" 2>/dev/null || true
}
trap 'tidy; cargo build --quiet --workspace --bins "${flags[@]}"' EXIT

mkdir -p target/mutations
caught=0
missed=()
for patch in local/chaos/mutations/*.patch; do
  name=$(basename "$patch" .patch)
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
  tidy
  git worktree add --quiet --force --detach "$scratch" HEAD
  git -C "$scratch" apply "$root/$patch"
  echo "$name: $(head -n 1 "$patch")"
  (cd "$scratch" && cargo build --quiet --workspace --bins --features pipeline/failpoints "${flags[@]}" 2>"$root/target/mutations/$name.build") ||
    { tail -n 20 "target/mutations/$name.build"; exit 1; }
  rm -rf "$binaries"
  mkdir -p "$binaries"
  for function in functions/*/; do
    cp "$CARGO_TARGET_DIR/$profile/$(basename "$function")" "$binaries/"
  done
  read -r -a scenario < <(sed -n 's/^caught-by: //p' "$patch")
  output=target/mutations/$name.out
  # Only the functions are changed; the suite itself is not.
  if target/chaos/suite --short --seed "${SEED:-7}" --binaries "$binaries" "${scenario[@]}" >"$output" 2>&1; then
    echo "  NOT CAUGHT by ${scenario[*]}"
    missed+=("$name")
  elif grep -qE '^ +I[0-9]+: ' "$output"; then
    echo "  caught by ${scenario[*]}:"
    grep -m 1 -E '^F[0-9]+ ' "$output"
    grep -E '^ +I[0-9]+: ' "$output" | sort -u -k1,1 | cut -c1-140
    caught=$((caught + 1))
  else
    echo "  the suite failed without a verdict:"
    tail -n 5 "$output"
    missed+=("$name")
  fi
done
echo "$caught caught, ${#missed[@]} not caught${missed[*]:+: ${missed[*]}}"
[ ${#missed[@]} -eq 0 ]
