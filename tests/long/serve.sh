#!/usr/bin/env bash
# A server under load for minutes: versions that replace each other, more requests than it can answer, idle connections.
# MLCTL names the binary, SECONDS_OF_LOAD the time of the first part (300), SECONDS_OF_OVERLOAD that of the second (60).
# The load comes from benches/serve/peers, which is built into the cache folder.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${MLCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mlctl}/serve-peers
CARGO_TARGET_DIR=$target cargo build --quiet --release --locked --manifest-path benches/serve/peers/Cargo.toml
exec python3 tests/long/serve_load.py "${MLCTL:-target/release/mlctl}" "$target/release/serve-peers" \
    "${SECONDS_OF_LOAD:-300}" "${SECONDS_OF_OVERLOAD:-60}"
