#!/usr/bin/env bash
# A server under load for minutes: versions that replace each other, then more requests than it can answer.
# MLCTL names the binary, SECONDS_OF_LOAD the time of the first part (300).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec python3 tests/long/serve_load.py "${MLCTL:-target/release/mlctl}" "${SECONDS_OF_LOAD:-300}"
